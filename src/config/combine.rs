//! Precedence: command line over environment over file over the hosters' conventions over defaults.

use super::definition::Key;
use super::layer::{Given, Layer, default_values};
use super::table::options;
use std::collections::BTreeMap;

/// All options with the values that count, each with its origin. Defaults that are computed are still absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combined {
    values: BTreeMap<Key, Vec<Given>>,
}

impl Combined {
    /// The values of an option, in the order they were given; none when it is off.
    pub fn get(&self, key: Key) -> &[Given] {
        self.values.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Puts a computed default.
    pub(super) fn set(&mut self, key: Key, values: Vec<Given>) {
        self.values.insert(key, values);
    }
}

/// Combines layers, the first one wins. A list replaces the list of a lower layer as a whole: nobody could take an address
/// away otherwise.
pub fn combine(layers: &[&Layer]) -> Combined {
    let values_of = |key| {
        let given = layers.iter().find_map(|layer| layer.get(key));
        given.map_or_else(|| default_values(key), <[Given]>::to_vec)
    };
    Combined { values: options().map(|option| (option.key, values_of(option.key))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layer::Origin;

    fn layer(key: Key, texts: &[&str], origin: &Origin) -> Layer {
        let mut layer = Layer::default();
        let given = |text: &&str| Given { text: (*text).to_owned(), origin: origin.clone() };
        layer.set(key, texts.iter().map(given).collect());
        layer
    }

    #[test]
    fn the_first_layer_that_has_an_option_wins() {
        let flag = Origin::Flag("--workers".to_owned());
        let variable = Origin::Variable("MONOCEROS_WORKERS".to_owned());
        let file = Origin::File { path: "monoceros.toml".into(), line: 2, column: 11 };
        let convention = Origin::Variable("WEB_CONCURRENCY".to_owned());
        let given = |present: bool, text: &str, origin: &Origin| {
            if present { layer(Key::Retries, &[text], origin) } else { Layer::default() }
        };
        // Every combination of sources that are present, as bits.
        for present in 0..16_u8 {
            let bit = |place: u8| present & (1 << place) != 0;
            let layers = [
                given(bit(3), "8", &flag),
                given(bit(2), "4", &variable),
                given(bit(1), "2", &file),
                given(bit(0), "6", &convention),
            ];
            let combined = combine(&layers.iter().collect::<Vec<_>>());
            let expected = match present {
                8.. => ("8", &flag),
                4..8 => ("4", &variable),
                2..4 => ("2", &file),
                1 => ("6", &convention),
                0 => ("1", &Origin::Default),
            };
            let [Given { text, origin }] = combined.get(Key::Retries) else { panic!("one value: {present:b}") };
            assert_eq!((text.as_str(), origin), expected, "{present:b}");
        }
    }

    #[test]
    fn a_list_replaces_the_lower_list() {
        let high = layer(Key::Bind, &[":1"], &Origin::Flag("--bind".to_owned()));
        let low = layer(Key::Bind, &[":2", ":3"], &Origin::Variable("MONOCEROS_BIND".to_owned()));
        assert_eq!(combine(&[&high, &low]).get(Key::Bind), high.get(Key::Bind).unwrap_or_default());
        let empty = layer(Key::StaticDir, &[], &Origin::Default);
        let low = layer(Key::StaticDir, &["static"], &Origin::Default);
        assert!(combine(&[&empty, &low]).get(Key::StaticDir).is_empty());
    }
}
