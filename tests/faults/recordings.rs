//! Recordings change, disappear and return during downloads.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Instant,
};

use harness::{
    agent::{Agent, AgentOptions},
    client::{body, first_link, names, search, send},
    matrix,
    mounted::Mounted,
    process::{installed, skip},
    recordings::{CALL, noise, wav, write},
    relay::Relay,
};
use serde_json::Value;

use crate::{
    download::{Received, listen},
    setting::{LONG, LONG_LEN, Setting, ms},
};

/// The first column of the matrix.
const PART: &str = "recordings";
/// The user `nobody`, with its number in Debian and Fedora.
const NOBODY: u32 = 65534;

/// A site with a long recording that changes during a download.
struct Scene {
    setting: Setting,
    _agent: Agent,
    long: Vec<u8>,
    link: String,
    file: PathBuf,
}

impl Scene {
    async fn new() -> Self {
        let setting = Setting::new(Relay::start().await).await;
        let long = setting.with_long();
        let agent = setting.agent().await;
        let link = setting.long_link().await;
        let file = setting.recordings.path().join(format!("in-{LONG}.mp3"));
        Self { setting, _agent: agent, long, link, file }
    }

    /// Listens; in the middle of it something happens to the file.
    async fn listen(&self, fault: impl FnOnce(&Path)) -> Received {
        let response = send(self.setting.client.get(&self.link)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.content_length(), Some(LONG_LEN as u64));
        listen(response, LONG_LEN / 10, async || fault(&self.file)).await
    }

    /// A new download: status and bytes.
    async fn fetch(&self) -> (u16, Vec<u8>) {
        body(send(self.setting.client.get(&self.link)).await).await
    }

    fn is_whole(&self, received: &Received) {
        assert!(received.error.is_none(), "{:?}", received.error);
        assert!(received.bytes == self.long, "{} bytes", received.bytes.len());
    }

    /// How many bytes of a cut download arrived, all of them right.
    fn is_cut(&self, received: &Received) -> usize {
        let len = received.bytes.len();
        assert!(received.error.is_some() && len < LONG_LEN, "{len} bytes looked complete");
        assert!(self.long.starts_with(&received.bytes), "a wrong byte among {len}");
        len
    }
}

#[tokio::test]
async fn recordings_that_are_deleted_are_delivered_to_their_end_and_then_gone() {
    let scene = Scene::new().await;
    let received = scene.listen(|file| fs::remove_file(file).unwrap()).await;
    scene.is_whole(&received);
    assert_eq!(scene.fetch().await.0, 404);
    let found = search(&scene.setting.client, &scene.setting.site, LONG, &[]).await;
    assert!(names(&found).is_empty() && found["complete"] == true, "{found}");
    let promise = "the running download is complete and identical, the next gets 404";
    matrix::row(PART, "deleted during its download", promise, "complete and identical, then 404");
}

#[tokio::test]
async fn recordings_that_are_truncated_are_cut_and_never_complete() {
    let scene = Scene::new().await;
    let shorten =
        |file: &Path| OpenOptions::new().write(true).open(file).unwrap().set_len(1_000_000).unwrap();
    let received = scene.listen(shorten).await;
    let len = scene.is_cut(&received);
    assert_eq!(scene.fetch().await, (200, scene.long[..1_000_000].to_vec()));
    let promise = "the download is cut, every byte before that is right; the next has the new length";
    matrix::row(
        PART,
        "truncated during its download",
        promise,
        format!("cut after {} MB, no wrong byte", len / 1_000_000),
    );
}

#[tokio::test]
async fn recordings_that_are_replaced_are_delivered_as_they_were_and_then_as_they_are() {
    let scene = Scene::new().await;
    let other = noise(LONG_LEN, 8);
    let received = scene
        .listen(|file| {
            let new = write(file.parent().unwrap(), ".new", &other);
            fs::rename(new, file).unwrap();
        })
        .await;
    scene.is_whole(&received);
    assert!(scene.fetch().await == (200, other));
    let promise = "the running download is complete and identical, the next is the new recording";
    matrix::row(
        PART,
        "replaced by rename during its download",
        promise,
        "complete and identical, then the new one",
    );
}

#[tokio::test]
async fn recordings_that_are_written_over_are_cut_before_the_first_byte_that_is_new() {
    let scene = Scene::new().await;
    let other = noise(LONG_LEN, 8);
    let write_over =
        |file: &Path| OpenOptions::new().write(true).open(file).unwrap().write_all(&other).unwrap();
    let received = scene.listen(write_over).await;
    let len = scene.is_cut(&received);
    assert!(scene.fetch().await == (200, other));
    let promise = "the download is cut, every byte before that is right; the next is the new recording";
    matrix::row(
        PART,
        "overwritten in place with the same length",
        promise,
        format!("cut after {} MB, no wrong byte", len / 1_000_000),
    );
}

#[tokio::test]
async fn recordings_that_grow_are_delivered_with_the_promised_length() {
    let scene = Scene::new().await;
    let more = noise(1_000_000, 9);
    let append = |file: &Path| OpenOptions::new().append(true).open(file).unwrap().write_all(&more).unwrap();
    let received = scene.listen(append).await;
    scene.is_whole(&received);
    let (status, bytes) = scene.fetch().await;
    assert!(status == 200 && bytes == [&scene.long[..], &more].concat(), "{status}, {} bytes", bytes.len());
    let promise = "exactly the bytes that Content-Length promised; the next download has more";
    matrix::row(PART, "grows during its download", promise, "complete and identical, then 1 MB longer");
}

/// Whether other users than the owner may read a file or directory.
fn share(path: &Path, shared: bool) {
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(if shared { mode | 0o055 } else { mode })).unwrap();
}

/// Repairs the fault. Returns the response of the first good search, and how long that took.
async fn right_again(setting: &Setting, call: &str, put_right: impl FnOnce()) -> (Value, String) {
    let since = Instant::now();
    put_right();
    let found = search(&setting.client, &setting.site, call, &[]).await;
    (found, ms(since.elapsed()))
}

#[tokio::test]
async fn recordings_that_may_not_be_read_are_reported_and_come_back_by_themselves() {
    if !rustix::process::geteuid().is_root() {
        return skip("a test with files of another user: only root can create them");
    }
    if !installed("setpriv") {
        return;
    }
    let setting = Setting::new(Relay::start().await).await;
    let root = setting.recordings.path();
    let file = root.join(format!("in-{CALL}.wav"));
    // The agent of another user sees this: root without its special rights.
    let powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let options = setting.options().started_by(&powerless);
    let agent = Agent::start(&setting.relay, &setting.site, options).await;
    let link = setting.short_link().await;
    let fetch = async || body(send(setting.client.get(&link)).await).await;
    let whole = (200, wav(1.0, 1));
    assert!(fetch().await == whole);

    for path in [&file, root] {
        chown(path, Some(NOBODY), None).unwrap();
    }
    share(&file, false);
    let (status, said) = fetch().await;
    let said = String::from_utf8(said).unwrap();
    assert!(status == 500 && said.contains("the site cannot read the recording"), "{status} {said}");
    assert_eq!(
        names(&search(&setting.client, &setting.site, CALL, &[]).await).len(),
        1,
        "the search finds it"
    );
    share(&file, true);
    assert!(fetch().await == whole);

    share(root, false);
    let found = search(&setting.client, &setting.site, CALL, &[]).await;
    assert!(names(&found).is_empty() && found["complete"] == false, "{found}");
    agent.process.wait_for("cannot be read; is it mounted, and may the agent read it?").await;
    assert_eq!(fetch().await.0, 500);
    let (found, took) = right_again(&setting, CALL, || share(root, true)).await;
    assert!(names(&found).len() == 1 && found["complete"] == true, "{found}");
    assert!(fetch().await == whole);
    let promise =
        "a file: 500 with the reason; a directory: searches report incomplete results; works again by itself";
    matrix::row(PART, "not readable for a while", promise, format!("as promised, found again after {took}"));
}

/// Removes the storage of a root during searches and downloads, and brings it back.
async fn is_unmounted(mut disk: Mounted, inside: &str, more: &[&str]) -> String {
    let setting = Setting::new(Relay::start().await).await;
    let long = noise(LONG_LEN, 7);
    write(&disk.storage().join(inside), format!("in-{LONG}.mp3"), &long);
    File::create(disk.storage().join(".mounted")).unwrap();
    let options = AgentOptions::new(disk.place().join(inside)).with(more);
    let agent = Agent::start(&setting.relay, &setting.site, options).await;
    let link = setting.long_link().await;
    let response = send(setting.client.get(&link)).await;
    let received = listen(response, LONG_LEN / 10, async || disk.take_away()).await;
    assert!(
        received.error.is_none() && received.bytes == long,
        "{:?}, {}",
        received.error,
        received.bytes.len()
    );

    for _ in 0..10 {
        let found = search(&setting.client, &setting.site, LONG, &[]).await;
        assert!(names(&found).is_empty() && found["complete"] == false, "{found}");
    }
    agent.process.wait_for_code("storage.degraded").await;
    let (status, said) = body(send(setting.client.get(&link)).await).await;
    assert_eq!(status, 500, "{}", String::from_utf8_lossy(&said));

    let (found, took) = right_again(&setting, LONG, || disk.bring_back()).await;
    assert!(names(&found).len() == 1 && found["complete"] == true, "{found}");
    assert!(body(send(setting.client.get(first_link(&found))).await).await == (200, long));
    agent.process.wait_for_code("storage.recovered").await;
    took
}

#[tokio::test]
async fn recordings_that_are_unmounted_are_reported_and_come_back_by_themselves() {
    let (Some(first), Some(second)) = (Mounted::mount(), Mounted::mount()) else { return };
    let by_directory = is_unmounted(first, "calls", &[]).await;
    let by_sentinel = is_unmounted(second, "", &["--sentinel", ".mounted"]).await;
    let promise = "open downloads finish; searches report incomplete results, no recording gets 404; works \
                   again by itself";
    let measured = format!("found again after {by_directory}; with --sentinel {by_sentinel}");
    matrix::row(PART, "storage unmounted under load", promise, measured);
}
