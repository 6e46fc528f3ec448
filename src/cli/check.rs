//! `monoceros check`: the configuration as it would be served.

use crate::config::{Resolved, Settings, show};
use crate::front::{Bind, Purpose};
use std::fmt::Write as _;

/// Describes a valid configuration: every value with its origin, as a configuration file, then what comes of it.
pub(super) fn describe(resolved: &Resolved) -> String {
    let mut text = String::from("# The configuration is valid.\n\n");
    text.push_str(&show::effective(&resolved.combined));
    text.push('\n');
    for line in consequences(&resolved.settings) {
        let _ = writeln!(text, "# {line}");
    }
    text
}

fn consequences(settings: &Settings) -> Vec<String> {
    let mut lines: Vec<String> = settings.front.binds.iter().map(listens).collect();
    lines.extend(
        settings
            .front
            .files
            .mounts
            .iter()
            .map(|mount| format!("serves {} from {}", mount.url, mount.directory.display())),
    );
    let internal = settings.front.files.internal.iter();
    lines.extend(internal.map(|mount| {
        format!("sends files of {} as {} when the application says so", mount.directory.display(), mount.url)
    }));
    let supervisor = &settings.supervisor;
    lines.push(format!(
        "runs {} in {} worker {} from {}",
        supervisor.app.app,
        supervisor.workers,
        if supervisor.workers.most == 1 { "process" } else { "processes" },
        supervisor.chdir.display()
    ));
    lines
}

fn listens(bind: &Bind) -> String {
    let address = crate::config::bind::show(&bind.address);
    match bind.purpose {
        Purpose::Http => format!("listens on {address} for HTTP"),
        Purpose::Https => format!("listens on {address} for HTTPS"),
        Purpose::RedirectToHttps { port } => format!("listens on {address} and redirects to HTTPS on port {port}"),
    }
}
