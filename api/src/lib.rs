//! Third floor: HTTP.
//!
//! Turns requests into calls of [`tidegate_cluster::Broker`] and its answers into responses; it knows no file, no lock and no leader.
//! Its promise: **the status tells the truth.** What is 2xx happened as asked, whole; anything else is a problem that says whether
//! repeating can help and whether something may have been done.
//!
//! ```text
//!   TcpListener ─ connection ─ middleware ─ routes ─ extract ─ dto ─> Broker
//!                 (bounds in    (id, origin,                 (parsed
//!                  time, count)  problems, …)                 once)
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`connection`] | the accept loop; HTTP/1.1 and HTTP/2 without TLS; slow and idle connections; stopping |
//! | [`middleware`] | what holds for every request and answer |
//! | [`routes`] | handlers, each with its entry in the OpenAPI document |
//! | [`extract`] | path, query and body, bounded and strict |
//! | [`dto`] | bodies of requests and answers |
//! | [`json`] | scanning and writing JSON without copies |
//! | [`counted`] | answers that count as under way until they are sent |
//! | [`stored`] | answers of stored batches: copied, or left to the system to send |
//! | [`retry`] | what makes a produce safe to repeat |
//! | [`error`] | problems; the one table from error code to status |
//! | [`openapi`] | the contract, made from the routes |
//! | [`state`] | what handlers are given |

mod answer;
pub mod connection;
mod counted;
mod dto;
pub mod error;
pub mod extract;
mod json;
mod middleware;
pub mod openapi;
mod retry;
mod routes;
pub mod state;
mod stored;

use axum::Router;
use tidegate_types::ErrorCode;

pub use connection::{listen, serve};
pub use error::ApiError;
pub use state::{ApiConfig, ApiState, RenderMetrics};

/// All routes with everything that surrounds them.
pub fn router(state: ApiState) -> Router {
    let (routes, document) = openapi::routes().split_for_parts();
    let layer = middleware::DoorLayer::new(&state, &document);
    routes
        .merge(routes::docs::router())
        .fallback(async || ApiError::new(ErrorCode::RouteNotFound, "there is no such path"))
        .method_not_allowed_fallback(async || ApiError::new(ErrorCode::MethodNotAllowed, "the path takes other methods: see Allow"))
        .with_state(state)
        .layer(layer)
}
