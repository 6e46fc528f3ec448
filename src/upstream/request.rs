//! A request as it goes over the wire, kept until its answer has begun so that it can be handed out again.

use super::timeouts::Timeouts;
use bytes::{Bytes, BytesMut};
use monoceros_wire::codec::FieldTooLong;
use monoceros_wire::frame::{FLAG_END, Kind, StreamId};
use monoceros_wire::message::{self, Field, Request, RequestFacts};
use monoceros_wire::outbound::Outbound;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// The body that goes with a request frame.
#[derive(Debug, Clone)]
pub enum RequestBody {
    /// Nothing, or the bytes themselves (at most [`monoceros_wire::BODY_INLINE_MAX`]).
    Inline(Bytes),
    /// A file that holds exactly the body.
    File(Arc<OwnedFd>),
    /// Sent piece by piece after the request.
    Stream,
}

/// Who asks: an address, or the /64 of an IPv6 address, which is what one subscriber has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(u128);

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }
}

/// An encoded request. A clone shares head and body.
#[derive(Debug, Clone)]
pub struct EncodedRequest {
    client: Option<Client>,
    is_probe: bool,
    head: Bytes,
    body: RequestBody,
    is_idempotent: bool,
}

impl EncodedRequest {
    /// Encodes once, however often the request is handed out. `facts.body` must say the same as `body`.
    pub fn encode<'a>(
        facts: &RequestFacts<'_>,
        fields: impl IntoIterator<Item = Field<'a>>,
        body: RequestBody,
        is_idempotent: bool,
    ) -> Result<Self, FieldTooLong> {
        let mut head = BytesMut::with_capacity(1024);
        message::encode_request(&mut head, facts, fields)?;
        if head.len() > monoceros_wire::HEAD_MAX {
            return Err(FieldTooLong(head.len()));
        }
        Ok(Self { client: None, is_probe: false, head: head.freeze(), body, is_idempotent })
    }

    /// Names the client, so that it takes turns with others; without a name the request has a turn of its own.
    #[must_use]
    pub fn of(self, client: Option<Client>) -> Self {
        Self { client, ..self }
    }

    /// It is a question of our own to one certain worker.
    #[must_use]
    pub(super) fn probing(self) -> Self {
        Self { is_probe: true, ..self }
    }

    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    pub(super) fn client(&self) -> Option<Client> {
        self.client
    }

    /// Appends the request frame.
    pub fn push_to(&self, outbound: &mut Outbound, stream: StreamId, cell: u32) {
        let cell = cell.to_le_bytes();
        match &self.body {
            RequestBody::Inline(bytes) => {
                outbound.push_parts(stream, Kind::Request, FLAG_END, &[&cell, &self.head, bytes]);
            }
            RequestBody::File(file) => {
                outbound.push_descriptor(stream, Kind::Request, FLAG_END, &[&cell, &self.head], Arc::clone(file));
            }
            RequestBody::Stream => outbound.push_parts(stream, Kind::Request, 0, &[&cell, &self.head]),
        }
    }

    /// The head as a worker decodes it, behind the number of no cell. A copy: not for every request.
    fn payload(&self) -> Bytes {
        Bytes::from([&[0; 4], &self.head[..]].concat())
    }

    /// Method and path, for the log.
    pub fn label(&self) -> String {
        const PATH_MAX: usize = 200;
        let payload = self.payload();
        let Ok(request) = Request::decode(&payload) else { return "a request".to_owned() };
        let RequestFacts { method, path, .. } = request.facts;
        let shown = &path[..path.len().min(PATH_MAX)];
        let more = if shown.len() < path.len() { "…" } else { "" };
        let whose = if self.is_probe { "our own " } else { "" };
        format!("{whose}{} {}{more}", method.escape_ascii(), shown.escape_ascii())
    }

    /// How long the application may take for it.
    pub fn time_limit(&self, timeouts: &Timeouts) -> Duration {
        // Decoding costs; mostly there is nothing to look for.
        if timeouts.routes.is_empty() {
            return timeouts.answer;
        }
        let payload = self.payload();
        Request::decode(&payload).map_or(timeouts.answer, |request| timeouts.answer_of(request.facts.path))
    }

    /// Its body comes piece by piece, through the exchange.
    pub fn is_streamed(&self) -> bool {
        matches!(self.body, RequestBody::Stream)
    }

    /// Repeating it does no harm.
    pub fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// What the client sent as `X-Request-ID`, made safe for the log.
    pub fn id(&self) -> Option<String> {
        const ID_MAX: usize = 100;
        let payload = self.payload();
        let mut fields = Request::decode(&payload).ok()?.fields;
        let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case(b"x-request-id"))?;
        Some(value[..value.len().min(ID_MAX)].escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_subscriber() {
        let client = |text: &str| Client::from(text.parse::<IpAddr>().unwrap());
        let rows = [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            // Both have 64 zeros in front.
            ("0.0.0.1", "::1", false),
        ];
        for (one, other, is_same) in rows {
            assert_eq!(client(one) == client(other), is_same, "{one} {other}");
        }
    }
}
