//! A tenants file of an operator: no weak secret is accepted, and no secret is shown.

#![no_main]

use std::collections::HashSet;

use audiovault_agent_core::tenants::{MIN_SECRET_LEN, PUBLIC_SECRET, Tenants};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(read) = Tenants::parse(text) else { return };
    let mut names = HashSet::new();
    for tenant in &read.usable {
        assert!(!tenant.name.trim().is_empty() && tenant.name.trim() == tenant.name);
        assert!(names.insert(tenant.name.to_lowercase()), "a tenant is there twice");
        let secret = tenant.secret.reveal();
        assert!(
            secret.chars().count() >= MIN_SECRET_LEN && secret != PUBLIC_SECRET && secret.trim() == secret
        );
        // A tenant may have the same name as its secret, or as the text that is shown in its place.
        let shown = format!("{tenant:?}").replace(&format!("{:?}", tenant.name), "");
        assert!(secret.len() < 32 || !shown.contains(secret), "a secret is shown");
    }
});
