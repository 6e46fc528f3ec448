//! Listening sockets that systemd has opened for this process (`sd_listen_fds(3)`).

use crate::front::inherited::Inherited;
use crate::sys::socket::ACTIVATION_VARIABLES;
use std::io;
use std::os::fd::RawFd;

/// The first number.
const FIRST: RawFd = 3;
/// More than any service has; a larger number is a mistake.
const SOCKETS_MAX: usize = 1024;

/// What the variables say, where they are for this process.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    /// One for each socket, from [`FIRST`] on; empty where it has none.
    names: Vec<String>,
}

/// `Err`: the variables are for this process, and say nothing that could be meant.
fn announced(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    own: u32,
) -> Result<Option<Announced>, String> {
    if pid.and_then(|pid| pid.parse::<u32>().ok()) != Some(own) {
        return Ok(None);
    }
    let text = count.unwrap_or_default();
    let Some(count) = text.parse::<usize>().ok().filter(|count| *count <= SOCKETS_MAX) else {
        return Err(format!("LISTEN_FDS={text:?} is not a number of sockets, 0 to {SOCKETS_MAX}"));
    };
    let mut names = names.unwrap_or_default().split(':').map(str::to_owned);
    Ok(Some(Announced { names: (0..count).map(|_| names.next().unwrap_or_default()).collect() }))
}

/// Takes them over. Call it once, before anything else opens descriptors.
pub(super) fn receive() -> io::Result<Vec<Inherited>> {
    let [pid, count, names] = ACTIVATION_VARIABLES.map(|variable| std::env::var(variable).ok());
    let announced = announced(pid.as_deref(), count.as_deref(), names.as_deref(), std::process::id())
        .map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
    let names = announced.map(|announced| announced.names).unwrap_or_default();
    let socket = |(number, name): (RawFd, String)| {
        let explained =
            |error: io::Error| io::Error::new(error.kind(), format!("socket {number} of the service manager: {error}"));
        Inherited::activated(number, name).map_err(explained)
    };
    (FIRST..).zip(names).map(socket).collect()
}

/// The addresses to listen on when nobody names any: every socket that is known by its number. A socket that is called
/// `http` or `https` says what is spoken on it.
pub(super) fn binds(sockets: &[Inherited]) -> Vec<String> {
    // A successor has its sockets from its predecessor, and their names still from the environment.
    let names = std::env::var(ACTIVATION_VARIABLES[2]).unwrap_or_default();
    let name_of = |number: RawFd| {
        let place = usize::try_from(number - FIRST).ok()?;
        names.split(':').nth(place)
    };
    sockets.iter().filter_map(Inherited::number).map(|number| bind(number, name_of(number))).collect()
}

fn bind(number: RawFd, name: Option<&str>) -> String {
    match name {
        Some(scheme @ ("http" | "https")) => format!("{scheme}://fd://{number}"),
        _ => format!("fd://{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_for_one_process() {
        let names = |names: &[&str]| Ok(Some(Announced { names: names.iter().map(|&name| name.to_owned()).collect() }));
        let odd = |text: &str| Err(format!("LISTEN_FDS={text:?} is not a number of sockets, 0 to 1024"));
        let rows = [
            (Some("7"), Some("2"), Some("http:site"), names(&["http", "site"])),
            (Some("7"), Some("2"), Some("http"), names(&["http", ""])),
            (Some("7"), Some("1"), None, names(&[""])),
            (Some("7"), Some("0"), None, names(&[])),
            (Some("8"), Some("1"), None, Ok(None)),
            (Some("8"), Some("x"), None, Ok(None)),
            (None, Some("1"), None, Ok(None)),
            (Some("7"), None, None, odd("")),
            (Some("7"), Some("-1"), None, odd("-1")),
            (Some("7"), Some("4294967295"), None, odd("4294967295")),
        ];
        for (pid, count, given, expected) in rows {
            assert_eq!(announced(pid, count, given, 7), expected, "{pid:?} {count:?} {given:?}");
        }
    }

    #[test]
    fn a_name_may_be_a_scheme() {
        assert_eq!(bind(3, Some("https")), "https://fd://3");
        assert_eq!(bind(4, Some("site.socket")), "fd://4");
        assert_eq!(bind(5, None), "fd://5");
    }
}
