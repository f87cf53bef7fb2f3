//! Pages: at most 25 items, and an absolute link to the next one on the host that was called.

use serde_json::{Value, json};

use super::{
    call::{Answer, Call},
    errors::of_problem,
    fault::Fault,
};
use crate::{grpc::pages::List, service::Page};

/// The most items of a page, and how many it has where that is not said.
const ITEMS_MAX: i32 = 25;

/// A list, a page at a time.
pub(super) struct Paging<'a> {
    call: &'a Call<'a>,
    list: List<'a>,
    size: i32,
}

impl<'a> Paging<'a> {
    /// As it is asked for.
    pub(super) fn of(call: &'a Call<'a>, list: List<'a>) -> Result<Self, Fault> {
        let size = match call.target.parameter("maxresults") {
            None | Some("") => ITEMS_MAX,
            Some(text) => {
                let size = text.parse().ok().filter(|size| (1..=ITEMS_MAX).contains(size));
                size.ok_or_else(|| Fault::property("maxresults", "1 to 25 are allowed"))?
            }
        };
        Ok(Self { call, list, size })
    }

    /// Which page that is; `item` reads what a token of ours holds.
    pub(super) fn page<T>(&self, item: impl FnOnce(&str) -> Option<T>) -> Result<Page<T>, Fault> {
        let token = self.call.target.parameter("$skiptoken").unwrap_or_default();
        let page = self.list.page(self.size, token, item);
        page.map_err(|problem| of_problem(&problem, self.call.route.operation))
    }

    /// The page, and where the next one is, if it goes on behind `last`.
    pub(super) fn answer(&self, items: Vec<Value>, last: Option<String>) -> Answer {
        let token = self.list.next(last.is_some(), last);
        let next = (!token.is_empty()).then(|| {
            let path = self.call.target.parts.join("/");
            let version = self.call.target.parameter("api-version").unwrap_or_default();
            self.call.url(&format!("{path}?api-version={version}&$skiptoken={token}&maxresults={}", self.size))
        });
        Answer::ok(&json!({ "value": items, "nextLink": next }))
    }
}
