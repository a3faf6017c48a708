//! The bare handler: axum and nothing behind it. It parses the same JSON, or gives back a page that it was given, and so shows what HTTP costs alone.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{post, put};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Debug, Deserialize)]
struct Envelope {
    records: Vec<EnvelopeRecord>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "parsing it is all that is measured")]
struct EnvelopeRecord {
    key: Option<String>,
    value: Box<RawValue>,
}

type Page = Arc<OnceLock<Bytes>>;

async fn take_page(State(page): State<Page>, body: Bytes) -> StatusCode {
    if page.set(body).is_ok() { StatusCode::CREATED } else { StatusCode::CONFLICT }
}

async fn give_page(State(page): State<Page>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], page.get().cloned().unwrap_or_default())
}

/// Serves until it is killed.
pub(crate) fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let parse = async |envelope: axum::Json<Envelope>| axum::Json(serde_json::json!({"results": envelope.0.records.len()}));
        let router = axum::Router::new()
            .route("/v1/topics/{topic}/partitions/{partition}/records", post(parse).get(give_page))
            .route("/page", put(take_page))
            .layer(DefaultBodyLimit::disable())
            .with_state(Page::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        super::say(&listener.local_addr()?.to_string());
        Ok(axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), router).await?)
    })
}

/// The bare handler as a child process. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Bare {
    child: Child,
    address: SocketAddr,
}

impl Bare {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).arg("bare").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("the bare handler says {line:?}"))?;
        Ok(Self { child, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
