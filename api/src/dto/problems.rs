//! Which statuses an operation documents beside its success: each is a problem.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::response::Response;
use utoipa::openapi::{Ref, RefOr};

macro_rules! problems {
    ($($(#[doc = $doc:literal])+ $name:ident = $($status:literal)+;)*) => {
        $($(#[doc = $doc])+
        #[derive(Debug)]
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$($status),+].map(|status| (status.to_owned(), RefOr::Ref(Ref::from_response_name("Problem")))).into()
            }
        })*
    };
}

problems! {
    /// Of a call that reads what every node knows.
    MetadataReadProblems = "400" "403" "404" "503";
    /// Of a call that lists what every node knows.
    ListProblems = "400" "403" "422" "503";
    /// Of a call that changes a topic.
    TopicChangeProblems = "400" "403" "404" "408" "409" "413" "415" "422" "500" "503" "504";
    /// Of a call that deletes a topic.
    TopicDeletionProblems = "400" "403" "404" "500" "503" "504";
    /// Of a call about a producer.
    ProducerProblems = "400" "403" "404" "422" "500" "503" "504";
    /// Of a call that writes records.
    ProduceProblems = "400" "403" "404" "408" "409" "413" "415" "421" "422" "500" "503" "504" "507";
    /// Of a call that gives up records.
    TrimProblems = "400" "403" "404" "408" "413" "415" "416" "421" "422" "500" "503" "504" "507";
    /// Of a call that reads records.
    FetchProblems = "400" "403" "404" "406" "416" "421" "422" "500" "503" "507";
}
