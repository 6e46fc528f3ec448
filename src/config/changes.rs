//! Which options have other values than before, when a running server reads its configuration again.

use super::combine::Combined;
use super::definition::{Definition, Key};
use super::layer::Given;
use super::table::options;
use std::fmt;

/// Options that hold for the life of the process.
const UNTIL_RESTART: [Key; 5] = [Key::FrontThreads, Key::ControlSocket, Key::Reload, Key::ReloadDir, Key::ReloadExtra];

/// One option that has another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    option: &'static str,
    key: Key,
    /// As written; empty where it is not set.
    old: String,
    new: String,
}

impl Change {
    /// Only a new process takes it.
    pub fn needs_restart(&self) -> bool {
        UNTIL_RESTART.contains(&self.key)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Variables may be secrets.
        if self.key == Key::Env {
            return formatter.write_str(self.option);
        }
        let shown = |text: &str| if text.is_empty() { "not set".to_owned() } else { text.to_owned() };
        write!(formatter, "{} {} → {}", self.option, shown(&self.old), shown(&self.new))
    }
}

/// All options with other values, in the order of the help.
pub fn changes(old: &Combined, new: &Combined) -> Vec<Change> {
    let change = |option: &'static Definition| {
        let (old, new) = (text(old.get(option.key)), text(new.get(option.key)));
        (old != new).then_some(Change { option: option.name, key: option.key, old, new })
    };
    options().filter_map(change).collect()
}

/// Puts the old values where only a new process takes the new ones.
pub fn keep_until_restart(old: &Combined, new: &mut Combined) {
    for key in UNTIL_RESTART {
        new.set(key, old.get(key).to_vec());
    }
}

fn text(given: &[Given]) -> String {
    given.iter().map(|given| given.text.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layer::{Layer, Origin};

    fn combined(values: &[(Key, &[&str])]) -> Combined {
        let mut layer = Layer::default();
        for (key, texts) in values {
            let given = |text: &&str| Given { text: (*text).to_owned(), origin: Origin::Default };
            layer.set(*key, texts.iter().map(given).collect());
        }
        super::super::combine::combine(&[&layer])
    }

    #[test]
    fn only_other_values_are_changes() {
        let old = combined(&[(Key::Workers, &["2"]), (Key::Bind, &[":80"]), (Key::Env, &["KEY=old"])]);
        let new = combined(&[
            (Key::Workers, &["4"]),
            (Key::Bind, &[":80", ":443"]),
            (Key::Env, &["KEY=new"]),
            (Key::AccessLog, &["-"]),
            (Key::FrontThreads, &["3"]),
        ]);
        let found = changes(&old, &new);
        let shown: Vec<String> = found.iter().map(Change::to_string).collect();
        assert_eq!(
            shown,
            ["env", "workers 2 → 4", "bind :80 → :80, :443", "front-threads not set → 3", "access-log not set → -"]
        );
        assert_eq!(found.iter().filter(|change| change.needs_restart()).count(), 1);
        assert_eq!(changes(&new, &new), []);
    }
}
