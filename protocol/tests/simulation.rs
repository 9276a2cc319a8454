//! The simulated pair under random faults, for a few seconds' worth of seeds; `examples/simulate.rs` takes more.

use std::panic::catch_unwind;

use audiovault_protocol::testing::simulation::{Figures, simulate};

/// Lives through seeds until they have run out or one fails, which is named with how to see it again.
fn live(seeds: std::ops::Range<u64>) -> Figures {
    let mut figures = Figures::default();
    for seed in seeds {
        let finding = match catch_unwind(|| simulate(seed, &mut |_, _| {})) {
            Ok(Ok(came_to)) => {
                figures += came_to;
                continue;
            }
            Ok(Err(finding)) => finding.to_string(),
            Err(_) => "the crate's own assertion failed, see above".to_owned(),
        };
        let again = "cargo run -p audiovault-protocol --example simulate --";
        panic!("{finding}\nsee it again: {again} --seed {seed} --trace");
    }
    figures
}

#[test]
fn whatever_the_network_does_both_sides_keep_their_word() {
    let figures = live(0..100);
    let all = [figures.complete, figures.cut, figures.asked_again, figures.taken_over];
    assert!(all.iter().all(|count| *count > 0), "the network does too much, or too little: {figures:?}");
}

#[test]
fn a_seed_is_always_the_same_history() {
    let told = || {
        let mut lines = Vec::new();
        let _ = simulate(7, &mut |at, what| lines.push(format!("{at:?} {what}")));
        lines
    };
    assert_eq!(told(), told());
}
