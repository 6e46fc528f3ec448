//! Any `Accept-Encoding`: the order of the codings is by weight, and has the plain file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monoceros::front::negotiate::{Accepted, Coding};

fuzz_target!(|values: Vec<&[u8]>| {
    let accepted = Accepted::parse(values.into_iter());
    let order: Vec<Coding> = accepted.in_order().collect();
    assert!(order.contains(&Coding::Identity));
    assert!(order.windows(2).all(|pair| accepted.weight(pair[0]) >= accepted.weight(pair[1])));
    for coding in Coding::ALL {
        assert!(accepted.weight(coding) <= 1000);
        assert_eq!(order.contains(&coding), coding == Coding::Identity || accepted.weight(coding) > 0);
    }
});
