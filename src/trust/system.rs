//! The store of the system: used by curl, Python's `ssl`, OpenSSL and most programs that are no browsers.

use super::{Done, Outcome, Wish, finds, run};
use crate::front::tls::authority::Authority;
use std::fs;
use std::path::Path;

/// Where a distribution takes certificates from, and the program that reads them.
struct Layout {
    directory: &'static str,
    update: &'static str,
    arguments: &'static [&'static str],
}

/// Debian and its kin; Fedora and its kin; Arch; openSUSE.
const LAYOUTS: [Layout; 4] = [
    Layout { directory: "/usr/local/share/ca-certificates", update: "update-ca-certificates", arguments: &[] },
    Layout { directory: "/etc/pki/ca-trust/source/anchors", update: "update-ca-trust", arguments: &["extract"] },
    Layout {
        directory: "/etc/ca-certificates/trust-source/anchors",
        update: "update-ca-trust",
        arguments: &["extract"],
    },
    Layout { directory: "/usr/share/pki/trust/anchors", update: "update-ca-certificates", arguments: &[] },
];

const FILE: &str = "monoceros-development-authority.crt";

pub(super) fn carry_out(wish: Wish, authority: &Authority) -> Outcome {
    let store = "the system's store".to_owned();
    let known = LAYOUTS.iter().find(|layout| Path::new(layout.directory).is_dir() && finds(layout.update));
    let result = match known {
        None => Done::ByHand {
            reason: "how this system keeps its certificates is not known".to_owned(),
            commands: vec![format!("import {} as an authority for web sites", authority.file.display())],
        },
        Some(layout) => change(layout, wish, authority),
    };
    Outcome { store, result }
}

fn change(layout: &Layout, wish: Wish, authority: &Authority) -> Done {
    let place = Path::new(layout.directory).join(FILE);
    let present = fs::read_to_string(&place).ok();
    let is_so = match wish {
        Wish::Install => present.as_deref() == Some(authority.pem()),
        Wish::Uninstall => present.is_none(),
    };
    if is_so {
        return Done::Nothing;
    }
    if !rustix::process::geteuid().is_root() {
        return Done::ByHand {
            reason: "only root may change it".to_owned(),
            commands: commands(layout, wish, &authority.file, &place),
        };
    }
    let changed = match wish {
        Wish::Install => fs::write(&place, authority.pem()),
        Wish::Uninstall => fs::remove_file(&place),
    };
    let changed = changed.map_err(|error| format!("{}: {error}", place.display()));
    match changed.and_then(|()| run(layout.update, layout.arguments)) {
        Ok(()) => Done::Changed,
        Err(said) => Done::Failed(said),
    }
}

fn commands(layout: &Layout, wish: Wish, file: &Path, place: &Path) -> Vec<String> {
    let update = [&["sudo", layout.update], layout.arguments].concat().join(" ");
    let first = match wish {
        Wish::Install => format!("sudo cp {} {}", file.display(), place.display()),
        Wish::Uninstall => format!("sudo rm {}", place.display()),
    };
    vec![first, update]
}
