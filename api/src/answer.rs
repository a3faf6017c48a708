//! Answers of JSON. Each ends with a line break, so that a shell's prompt begins on a line of its own.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidegate_types::ErrorCode;

use crate::error::ApiError;

/// An answer of JSON.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for JsonBody<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(mut json) => {
                json.push(b'\n');
                ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
            }
            Err(error) => ApiError::fault(ErrorCode::Internal, format_args!("an answer could not be written: {error}")).into_response(),
        }
    }
}
