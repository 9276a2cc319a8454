//! A token opens only if it is exactly one that was made for this site and has not expired; everything else is
//! refused. The relay, which has no key, reads only what it can check.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use audiovault_protocol::identity::{
    signed_link::{LinkHeader, LinkSecret, LinkSigner, LinkTarget, MAX_TOKEN_LEN},
    site::SiteId,
};
use libfuzzer_sys::fuzz_target;

static SIGNER: LazyLock<LinkSigner> = LazyLock::new(|| LinkSigner::new(&LinkSecret::from_bytes([7; 32])));
static SITE: LazyLock<SiteId> = LazyLock::new(|| SiteId::parse("acme").expect("a site"));

#[derive(Debug, Arbitrary)]
enum Token<'a> {
    /// Any text.
    Text(&'a str),
    /// A real one, with some damage.
    Minted { target: Target, expires: u64, nonce: [u8; 12], damage: Vec<Damage> },
}

#[derive(Debug, Arbitrary)]
struct Target {
    root: [u8; 8],
    search_token: [u8; 8],
    path: Vec<u8>,
    call_id: String,
    tenant: String,
    user: String,
}

#[derive(Debug, Arbitrary)]
enum Damage {
    Replace { at: u16, with: u8 },
    Cut { at: u16 },
    Append { with: u8 },
    OfAnotherSite,
}

fuzz_target!(|input: (Token, u64)| {
    let (token, now) = input;
    match token {
        Token::Text(text) => {
            let _ = LinkHeader::read(&SITE, text);
            assert!(SIGNER.open(&SITE, text, now).is_err(), "a made-up link opens");
        }
        Token::Minted { target, expires, nonce, damage } => open(target, expires, nonce, &damage, now),
    }
});

fn open(target: Target, expires: u64, nonce: [u8; 12], damage: &[Damage], now: u64) {
    let target = LinkTarget {
        root: target.root,
        search_token: target.search_token,
        path: target.path,
        call_id: target.call_id,
        tenant: target.tenant,
        user: target.user,
    };
    let Ok(minted) = SIGNER.mint(&SITE, &target, expires, nonce) else { return };
    assert!(minted.len() <= MAX_TOKEN_LEN, "a link of {} characters is too long for the relay", minted.len());
    let damaged = damage_done(&minted, damage);
    let header = LinkHeader::read(&SITE, &damaged);
    let opened = SIGNER.open(&SITE, &damaged, now);
    if damaged == minted {
        let header = header.expect("the relay understands what the agent made");
        assert_eq!((header.key_id, header.expires), (SIGNER.key_id(), expires));
        assert_eq!(opened.is_ok(), !header.is_expired(now));
        assert!(opened.is_err() || opened == Ok(target));
    } else {
        assert!(opened.is_err(), "a damaged link opens");
    }
}

fn damage_done(token: &str, damage: &[Damage]) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for damage in damage {
        match damage {
            Damage::Replace { at, with } => {
                if let Some(byte) = bytes.get_mut(usize::from(*at)) {
                    *byte = *with;
                }
            }
            Damage::Cut { at } => bytes.truncate(usize::from(*at)),
            Damage::Append { with } => bytes.push(*with),
            Damage::OfAnotherSite => {
                let other = SiteId::parse("other").expect("a site");
                let target = LinkTarget {
                    root: [0; 8],
                    search_token: [0; 8],
                    path: Vec::new(),
                    call_id: String::new(),
                    tenant: String::new(),
                    user: String::new(),
                };
                let minted = SIGNER.mint(&other, &target, u64::MAX, [0; 12]).expect("a short target");
                bytes = minted.into_bytes();
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
