//! Which content coding a client wants: `Accept-Encoding` (RFC 9110 §12.5.3). Pure.

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A content coding that we can have a representation in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
    /// Not encoded.
    Identity,
}

impl Coding {
    /// In the order of what we like best among codings that the client likes equally: the smallest first.
    pub const ALL: [Self; 4] = [Self::Brotli, Self::Zstd, Self::Gzip, Self::Identity];

    /// The value of `Content-Encoding`; `None` for [`Coding::Identity`], which is never named.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
            Self::Gzip => Some("gzip"),
            Self::Identity => None,
        }
    }

    fn of_name(name: &[u8]) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name.len() {
            2 if is("br") => Some(Self::Brotli),
            4 if is("gzip") => Some(Self::Gzip),
            4 if is("zstd") => Some(Self::Zstd),
            // RFC 9110 §8.4.1.3.
            6 if is("x-gzip") => Some(Self::Gzip),
            8 if is("identity") => Some(Self::Identity),
            _ => None,
        }
    }
}

/// The weight of each coding in thousandths, in the order of [`Coding::ALL`]; zero is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted([u16; 4]);

/// A representation that is not encoded needs no mention to be acceptable, but a coding that is mentioned is liked better.
const UNMENTIONED_IDENTITY: u16 = 1;

impl Accepted {
    /// Of a client that says nothing. RFC 9110 §12.5.3 would let us choose any coding; such clients understand none.
    pub const IDENTITY: Self = Self([0, 0, 0, UNMENTIONED_IDENTITY]);

    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(ACCEPT_ENCODING).iter().peekable();
        if values.peek().is_none() {
            return Self::IDENTITY;
        }
        Self::parse(values.map(http::HeaderValue::as_bytes))
    }

    /// Reads the values of the header. What is malformed or unknown is passed over; a coding that is named twice has the
    /// weight of its last mention.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut named = [None; 4];
        let mut others = None;
        for element in values.flat_map(|value| value.split(|byte| *byte == b',')) {
            let (name, parameters) = match memchr::memchr(b';', element) {
                Some(semicolon) => (&element[..semicolon], Some(&element[semicolon + 1..])),
                None => (element, None),
            };
            let Some(weight) = parameters.map_or(Some(1000), weight) else { continue };
            match (name.trim_ascii(), Coding::of_name(name.trim_ascii())) {
                (b"*", _) => others = Some(weight),
                (_, Some(coding)) => named[coding as usize] = Some(weight),
                _ => {}
            }
        }
        let identity = named[Coding::Identity as usize].or(others.filter(|weight| *weight == 0));
        let of = |coding: Coding| named[coding as usize].or(others).unwrap_or(0);
        Self([of(Coding::Brotli), of(Coding::Zstd), of(Coding::Gzip), identity.unwrap_or(UNMENTIONED_IDENTITY)])
    }

    /// In thousandths; zero is not acceptable.
    pub fn weight(self, coding: Coding) -> u16 {
        self.0[coding as usize]
    }

    /// The acceptable codings, the best first. Without an encoded one among them that comes before it,
    /// [`Coding::Identity`] is the first. Where it is not acceptable it comes last all the same: an answer that was not
    /// asked for is worth more than none (RFC 9110 §12.5.3).
    pub fn in_order(self) -> impl Iterator<Item = Coding> {
        let mut order = Coding::ALL;
        // Stable: of equals, the one that comes first in `ALL`.
        order.sort_by_key(|coding| std::cmp::Reverse(self.weight(*coding)));
        order.into_iter().filter(move |coding| *coding == Coding::Identity || self.weight(*coding) > 0)
    }
}

/// `q=0.8` in thousandths (RFC 9110 §12.4.2); `None` for what is no weight.
fn weight(parameters: &[u8]) -> Option<u16> {
    let (name, value) = parameters.split_at_checked(memchr::memchr(b'=', parameters)? + 1)?;
    if !name[..name.len() - 1].trim_ascii().eq_ignore_ascii_case(b"q") {
        return None;
    }
    let value = value.trim_ascii();
    let (whole, fraction) = match value {
        [whole] => (*whole, &b""[..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return None,
    };
    if !fraction.iter().all(u8::is_ascii_digit) || !matches!(whole, b'0' | b'1') {
        return None;
    }
    let digit = |place: usize| fraction.get(place).map_or(0, |digit| u16::from(digit - b'0'));
    let thousandths = u16::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(values: &[&str]) -> String {
        let accepted = Accepted::parse(values.iter().map(|value| value.as_bytes()));
        let names: Vec<&str> = accepted.in_order().map(|coding| coding.name().unwrap_or("-")).collect();
        names.join(" ")
    }

    #[test]
    fn what_clients_say_and_the_order_of_the_codings() {
        let cases: [(&[&str], &str); 32] = [
            // Browsers.
            (&["gzip, deflate, br, zstd"], "br zstd gzip -"),
            (&["gzip, deflate, br"], "br gzip -"),
            (&["gzip, deflate"], "gzip -"),
            (&["gzip"], "gzip -"),
            (&["GZIP"], "gzip -"),
            (&["x-gzip"], "gzip -"),
            (&[" br ,gzip "], "br gzip -"),
            (&["gzip", "br"], "br gzip -"),
            // Weights.
            (&["gzip;q=1.0, br;q=0.5"], "gzip br -"),
            (&["gzip;q=0.5, br;q=0.5"], "br gzip -"),
            (&["br;q=0.001, gzip ; q=0.002"], "gzip br -"),
            (&["br;Q=0.3,gzip;q=0.4"], "gzip br -"),
            (&["gzip;q=0"], "-"),
            (&["gzip;q=0.000, br"], "br -"),
            (&["br;q=0, gzip, *;q=0.5"], "gzip zstd -"),
            (&["gzip;q=0, gzip"], "gzip -"),
            (&["identity, gzip;q=0.5"], "- gzip"),
            (&["identity;q=0.5, gzip;q=0.5"], "gzip -"),
            (&["identity;q=0.8, gzip;q=0.5, br"], "br - gzip"),
            // Anything.
            (&["*"], "br zstd gzip -"),
            (&["*;q=0"], "-"),
            (&["gzip, *;q=0"], "gzip -"),
            (&["identity;q=0"], "-"),
            (&["identity;q=0, gzip"], "gzip -"),
            // Nothing.
            (&[], "-"),
            (&[""], "-"),
            (&[", ,"], "-"),
            // What is unknown or malformed is passed over.
            (&["compress, deflate"], "-"),
            (&["gzip;q=2, br"], "br -"),
            (&["gzip;q=0.1234, br;q=.5, zstd;q=1."], "zstd -"),
            (&["gzip;q=-1, br;x=1, zstd;q"], "-"),
            (&["gzip;q=1.001, br;q=0x1"], "-"),
        ];
        for (values, expected) in cases {
            assert_eq!(order(values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_client_that_says_nothing_gets_what_it_understands() {
        assert_eq!(Accepted::of(&HeaderMap::new()), Accepted::IDENTITY);
        assert_eq!(Accepted::IDENTITY.in_order().collect::<Vec<_>>(), [Coding::Identity]);
        assert_eq!(Accepted::parse([&b"br;q=0.25"[..]].into_iter()).weight(Coding::Brotli), 250);
    }
}
