//! How long the application may take: `--timeout`, `--route-timeout`, `--pause-timeout`.

use super::definition::{Key, Kind};
use super::duration;
use super::reader::Reader;
use super::table::definition;
use crate::upstream::timeouts::Timeouts;
use std::time::Duration;

pub(super) fn read(reader: &mut Reader<'_>) -> Timeouts {
    Timeouts {
        answer: reader.duration(Key::Timeout),
        routes: routes(reader),
        pause: reader.one(Key::PauseTimeout).map(|_| reader.duration(Key::PauseTimeout)),
    }
}

/// Each value is `PATH=TIME`.
fn routes(reader: &mut Reader<'_>) -> Vec<(String, Duration)> {
    let mut routes = Vec::new();
    for given in reader.all(Key::RouteTimeout) {
        let parsed =
            given.text.rsplit_once('=').and_then(|(path, time)| Some((route(path.trim())?, limit(time.trim())?)));
        match parsed {
            Some(parsed) => routes.push(parsed),
            None => reader.invalid(Key::RouteTimeout, given, Some("for example /report=5m".to_owned())),
        }
    }
    routes
}

fn route(path: &str) -> Option<String> {
    let is_path = path.starts_with('/') && !path.contains(['?', '#', '\0']);
    is_path.then(|| path.trim_end_matches('/').to_owned())
}

/// Within the bounds of `--timeout`.
fn limit(text: &str) -> Option<Duration> {
    let Kind::Duration { min, max } = definition(Key::Timeout).kind else { return None };
    duration::parse(text).filter(|time| (min..=max).contains(time))
}
