//! Is the server alive, can it serve, what does it do: answered by the front itself, never through a worker, and so also
//! when all of them are busy.

use super::body::Body;
use super::files::ALLOWED_METHODS;
use super::maintenance::Maintenance;
use super::rescue::{self, Asker, Failure};
use crate::upstream::pool::Pool;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What balancers and monitors ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The program runs.
    Live,
    /// A worker can take a request, or the next one starts it, and the server is not about to stop.
    Ready,
    /// The workers and the queue, as JSON.
    Status,
}

impl Question {
    /// By the last part of the path.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "live" => Some(Self::Live),
            "ready" => Some(Self::Ready),
            "status" => Some(Self::Status),
            _ => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Health {
    pool: Arc<Pool>,
    is_leaving: AtomicBool,
    is_drained: AtomicBool,
    maintenance: Maintenance,
}

impl Health {
    pub fn new(pool: Arc<Pool>) -> Self {
        let (is_leaving, is_drained) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { pool, is_leaving, is_drained, maintenance: Maintenance::default() }
    }

    /// From now on the server is not ready, so that balancers send nothing more before it stops.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// The same until it is taken back; the server does not stop.
    pub fn set_drained(&self, is_drained: bool) {
        self.is_drained.store(is_drained, Ordering::Relaxed);
    }

    /// Maintenance is a state of the server, not of one configuration.
    pub fn maintenance(&self) -> &Maintenance {
        &self.maintenance
    }

    /// Where the next request starts a worker, none is needed: a balancer that sends nothing would never bring one back.
    fn is_ready(&self) -> bool {
        let is_withdrawn = self.is_leaving.load(Ordering::Relaxed) || self.is_drained.load(Ordering::Relaxed);
        !is_withdrawn && self.pool.is_open()
    }

    pub fn answer(&self, question: Question, request: &Parts) -> Response<Body> {
        if request.method != Method::GET && request.method != Method::HEAD {
            return rescue::page(&Failure::MethodNotAllowed { allow: ALLOWED_METHODS }, &Asker::of(request));
        }
        let (status, kind, text) = match question {
            Question::Live => (StatusCode::OK, PLAIN, "alive\n".to_owned()),
            // In maintenance too: a server that is not ready would get no client to show the page to.
            Question::Ready if self.is_ready() => {
                let is_in_maintenance = self.maintenance.notice().is_some();
                (
                    StatusCode::OK,
                    PLAIN,
                    if is_in_maintenance { "ready, in maintenance\n" } else { "ready\n" }.to_owned(),
                )
            }
            Question::Ready => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready\n".to_owned()),
            Question::Status => (StatusCode::OK, JSON, self.status()),
        };
        let length = text.len();
        let mut response = Response::new(if request.method == Method::HEAD { Body::empty() } else { Body::full(text) });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn status(&self) -> String {
        let load = self.pool.load();
        let members = self.pool.members();
        let workers: Vec<_> = members
            .iter()
            .map(|member| json!({ "worker": member.worker, "slots": member.slots, "in_flight": member.in_flight, "ejected": member.is_ejected }))
            .collect();
        let status = json!({
            "ready": self.is_ready(),
            "maintenance": self.maintenance.notice().is_some(),
            "serving": load.serving,
            "in_flight": load.in_flight,
            "queued": load.queued,
            "workers": workers,
            // Seconds without a worker, where the next request starts one.
            "idle": self.pool.rest().map(|rest| rest.duration.as_secs_f64()),
        });
        format!("{status}\n")
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
