//! How the node is: does it live, does it take calls, which version is it, what does its clock say.

use reqwest::Method;
use serde::Deserialize;

use crate::call::Call;
use crate::client::Client;
use crate::error::Error;

/// A node that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// Its clock as it wrote it (`Date`, RFC 9110: whole seconds), if it did.
    pub date: Option<String>,
}

impl Client {
    /// Whether the node's process answers.
    ///
    /// # Errors
    /// [`Error::Answer`] if something answers that is no node; else as any call.
    pub async fn liveness(&self) -> Result<Liveness, Error> {
        #[derive(Deserialize)]
        struct Report {
            #[serde(rename = "status")]
            _status: String,
        }
        let answer = self.send(&Call::unversioned(Method::GET, "livez")).await?;
        let _: Report = answer.json()?;
        Ok(Liveness { date: answer.header("date").ok() })
    }

    /// Whether the node takes calls.
    ///
    /// # Errors
    /// A problem `starting`, `draining` or `leader-unavailable`, whose `checks` name what fails; else as any call.
    pub async fn readiness(&self) -> Result<(), Error> {
        self.send(&Call::unversioned(Method::GET, "readyz")).await.map(|_| ())
    }

    /// The version of the node's API document, which is the version of the node.
    ///
    /// # Errors
    /// As any call.
    pub async fn server_version(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Document {
            info: Info,
        }
        #[derive(Deserialize)]
        struct Info {
            version: String,
        }
        let document: Document = self.send(&Call::unversioned(Method::GET, "openapi.json")).await?.json()?;
        Ok(document.info.version)
    }
}
