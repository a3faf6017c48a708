//! Bytes of an answer that count as under way until they are sent, whatever is made of them on their way.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Extensions, HeaderMap};
use axum::response::Response;
use bytes::Bytes;
use tidegate_cluster::Permit;

/// What the body of an answer counts for, among the answer's extensions: whoever puts another body in its place covers that with it.
#[derive(Debug, Clone)]
struct Cover(Arc<Permit>);

/// Bytes and the permit that covers them.
struct Held<B> {
    bytes: B,
    _permit: Arc<Permit>,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Held<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

fn held(bytes: impl AsRef<[u8]> + Send + 'static, permit: Arc<Permit>) -> Body {
    Body::from(Bytes::from_owner(Held { bytes, _permit: permit }))
}

/// An answer whose body counts as `permit` says.
pub(crate) fn answer(headers: HeaderMap, bytes: impl AsRef<[u8]> + Send + 'static, permit: Arc<Permit>) -> Response {
    let mut response = Response::new(held(bytes, Arc::clone(&permit)));
    *response.headers_mut() = headers;
    response.extensions_mut().insert(Cover(permit));
    response
}

/// A body that takes the place of an answer's, whose extensions are given: it counts as much as that one, for as long as it is there.
pub(crate) fn in_its_place(extensions: &mut Extensions, bytes: Vec<u8>) -> Body {
    match extensions.remove::<Cover>() {
        Some(Cover(permit)) => held(bytes, permit),
        None => Body::from(bytes),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_cluster::Admission;

    use super::*;

    /// A promise: an answer counts until the last of its body is gone, and so does what takes its place.
    #[tokio::test]
    async fn bodies_count_until_they_are_gone() {
        let admission = Admission::new("test", 100);
        let permit = || Arc::new(admission.admit(60).unwrap());
        let (parts, body) = answer(HeaderMap::new(), b"plain".to_vec(), permit()).into_parts();
        drop(parts);
        let bytes = axum::body::to_bytes(body, 100).await.unwrap();
        assert_eq!((bytes.as_ref(), admission.used()), (&b"plain"[..], 60));
        drop(bytes);
        assert_eq!(admission.used(), 0);
        let (mut parts, plain) = answer(HeaderMap::new(), b"plain".to_vec(), permit()).into_parts();
        let coded = in_its_place(&mut parts.extensions, b"coded".to_vec());
        drop((plain, parts));
        assert_eq!(admission.used(), 60, "the permit goes with the body that is sent");
        drop(coded);
        assert_eq!(admission.used(), 0);
    }
}
