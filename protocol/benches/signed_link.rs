//! Cost of signed links: one is made for every recording that a search finds, and opened for every request of a
//! browser.

#![expect(clippy::expect_used, reason = "a measurement that cannot go on has nothing to say")]

use audiovault_protocol::identity::{
    signed_link::{LINK_NONCE_LEN, LinkHeader, LinkSecret, LinkSigner, LinkTarget},
    site::SiteId,
};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const EXPIRES: u64 = 1_711_449_102;
const NOW: u64 = EXPIRES - 3_600;

fn site() -> SiteId {
    SiteId::parse("acme-madrid").expect("a site")
}

fn signer() -> LinkSigner {
    LinkSigner::new(&LinkSecret::from_bytes([7; 32]))
}

fn target(signer: &LinkSigner) -> LinkTarget {
    LinkTarget {
        root: signer.fingerprint(b"file:/var/spool/asterisk/monitor/%YY/%MM/%DD"),
        search_token: signer.fingerprint(b"a-search-token"),
        path: b"2024/03/26/q-400-34911123456-20240326-083142-1711441902.17.wav".to_vec(),
        call_id: "1711441902.17".to_owned(),
        tenant: String::new(),
        user: "maria".to_owned(),
    }
}

/// Happens once in each run of an agent.
#[divan::bench]
fn derive_keys(bencher: Bencher) {
    let secret = LinkSecret::from_bytes([7; 32]);
    bencher.bench(|| LinkSigner::new(black_box(&secret)));
}

#[divan::bench]
fn mint(bencher: Bencher) {
    let site = site();
    let signer = signer();
    let target = target(&signer);
    // A repeated nonce is not allowed in a real link, but costs the same.
    bencher.bench(|| signer.mint(&site, black_box(&target), EXPIRES, [3; LINK_NONCE_LEN]));
}

#[divan::bench]
fn open(bencher: Bencher) {
    let site = site();
    let signer = signer();
    let token = signer.mint(&site, &target(&signer), EXPIRES, [3; LINK_NONCE_LEN]).expect("a link");
    bencher.bench(|| signer.open(&site, black_box(&token), NOW).expect("its own link"));
}

/// The part that the relay reads; it cannot open the link.
#[divan::bench]
fn read_header(bencher: Bencher) {
    let site = site();
    let signer = signer();
    let token = signer.mint(&site, &target(&signer), EXPIRES, [3; LINK_NONCE_LEN]).expect("a link");
    bencher.bench(|| LinkHeader::read(&site, black_box(&token)).expect("a whole link"));
}
