//! The stores of browsers: databases of NSS, one for Chromium and its kin, one in each profile of Firefox.

use super::{Done, NAME, Outcome, Wish, finds, run};
use std::fs;
use std::path::{Path, PathBuf};

const CERTUTIL: &str = "certutil";

pub(super) fn carry_out(wish: Wish, file: &Path, home: Option<&Path>) -> Vec<Outcome> {
    let Some(home) = home else { return Vec::new() };
    let stores = stores(home);
    let is_absent = |store: &Store| wish == Wish::Uninstall && !store.database.join("cert9.db").exists();
    let stores = stores.into_iter().filter(|store| !is_absent(store));
    let has_tool = finds(CERTUTIL);
    stores
        .map(|store| {
            let result = if has_tool { change(&store, wish, file) } else { without_tool(&store, wish, file) };
            Outcome { store: store.name, result }
        })
        .collect()
}

struct Store {
    name: String,
    database: PathBuf,
}

/// Chromium's is made if it is not there: a browser that is started later finds it. Firefox makes its own.
fn stores(home: &Path) -> Vec<Store> {
    let mut stores = vec![Store { name: "Chromium and its kin".to_owned(), database: home.join(".pki/nssdb") }];
    let snap = home.join("snap/chromium/current/.pki/nssdb");
    if snap.is_dir() {
        stores.push(Store { name: "Chromium (snap)".to_owned(), database: snap });
    }
    let profiles = [".mozilla/firefox", "snap/firefox/common/.mozilla/firefox", ".config/mozilla/firefox"];
    for place in profiles.map(|place| home.join(place)) {
        let entries = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
        for profile in entries.filter(|profile| profile.join("cert9.db").is_file()) {
            let name = profile.file_name().unwrap_or_default().to_string_lossy().into_owned();
            stores.push(Store { name: format!("Firefox ({name})"), database: profile });
        }
    }
    stores
}

fn change(store: &Store, wish: Wish, file: &Path) -> Done {
    let database = format!("sql:{}", store.database.display());
    let file = file.display().to_string();
    let is_known = || run(CERTUTIL, &["-L", "-d", &database, "-n", NAME]).is_ok();
    let forget = || run(CERTUTIL, &["-D", "-d", &database, "-n", NAME]);
    let result = match wish {
        Wish::Uninstall if !is_known() => return Done::Nothing,
        Wish::Uninstall => forget(),
        Wish::Install => prepare(&store.database, &database).and_then(|()| {
            // Another authority of the same name would stay beside the new one.
            while is_known() && forget().is_ok() {}
            run(CERTUTIL, &["-A", "-d", &database, "-t", "C,,", "-n", NAME, "-i", &file])
        }),
    };
    result.map_or_else(Done::Failed, |()| Done::Changed)
}

fn prepare(directory: &Path, database: &str) -> Result<(), String> {
    if directory.join("cert9.db").is_file() {
        return Ok(());
    }
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    run(CERTUTIL, &["-N", "--empty-password", "-d", database])
}

fn without_tool(store: &Store, wish: Wish, file: &Path) -> Done {
    let again = if wish == Wish::Install { "monoceros trust install" } else { "monoceros trust uninstall" };
    Done::ByHand {
        reason: format!("the program {CERTUTIL} is not installed (Debian: libnss3-tools, Fedora: nss-tools)"),
        commands: vec![
            format!("install it and run `{again}` again"),
            format!("or import {} in the settings of {}", file.display(), store.name),
        ],
    }
}
