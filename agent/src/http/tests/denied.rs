//! Tests of the service with a deny list.

use std::path::PathBuf;

use audiovault_agent_core::call_id::CallIdRules;

use super::*;
use crate::{
    audit::AuditLogSettings,
    storage::{
        SearchMode,
        deny_list::{self, DenySettings},
    },
};

struct Denying {
    site: Site,
    dir: TempDir,
}

impl Denying {
    /// A site with an empty deny list and an audit log.
    fn new(layout: &str, change: impl FnOnce(&mut ServiceSettings)) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("deny");
        let call_ids = CallIdRules::default();
        fs::write(&path, "").unwrap();
        let rules = deny_list::read(&path, &call_ids).unwrap().into();
        let audit_log = AuditLogSettings::new(dir.path().join("audit.jsonl"));
        let site = Site::with(layout, |settings| {
            settings.deny = Some(DenySettings { path, call_ids, rules });
            settings.audit_log = Some(audit_log);
            change(settings);
        });
        Self { site, dir }
    }

    fn deny(&self, text: &str) {
        fs::write(self.dir.path().join("deny"), text).unwrap();
    }

    async fn found(&self) -> (bool, Vec<String>) {
        let (status, found) = self.site.search(&ours("")).await;
        assert_eq!(status, 200);
        let files = found["files"].as_array().unwrap().iter();
        let names = files.map(|file| file["filename"].as_str().unwrap().to_owned());
        (found["complete"].as_bool().unwrap(), names.collect())
    }

    async fn lines(self) -> Vec<Value> {
        self.site.service.finish().await;
        let text = fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] != "begun").collect()
    }
}

#[tokio::test]
async fn a_denied_call_is_not_there_and_its_links_are_dead_and_both_are_on_record() {
    let place = Denying::new("", |_| {});
    place.site.put(NAME, &wav(1));
    let link = place.site.link(&ours("")).await;
    place.deny(CALL);
    assert_eq!(place.found().await, (true, vec![]), "as if there were none");
    let refused = place.site.fetch(&link, &[]).await;
    assert_eq!((refused.status().as_u16(), header(&refused, "cache-control")), (410, "private, no-store"));
    assert_eq!(json(refused).await["detail"], "this recording is no longer offered");
    assert_eq!(place.site.fetch("/recordings/forged/recording.wav", &[]).await.status(), 403);
    let lines = place.lines().await;
    let content_info =
        lines.iter().map(|line| (line["outcome"].as_str().unwrap(), line["status"].as_u64().unwrap()));
    let expected = [("complete", 200), ("denied", 200), ("denied", 410), ("refused", 403)];
    assert_eq!(content_info.collect::<Vec<_>>(), expected);
    assert_eq!((&lines[1]["found"], &lines[2]["call_id"]), (&0.into(), &CALL.into()));
    assert_eq!(lines[2]["problem"], "this recording is no longer offered");
}

#[tokio::test]
async fn a_glob_takes_single_recordings_out() {
    let place = Denying::new("", |_| {});
    for name in ["a/in-1711444502.17.wav", "b/in-1711444502.17-2.wav"] {
        place.site.put(name, &wav(1));
    }
    assert_eq!(place.found().await.1.len(), 2);
    place.deny("a/*");
    assert_eq!(place.found().await.1, ["in-1711444502.17-2.wav"]);
    place.deny(&format!("{}/b", place.site.dir.path().display()));
    // The old deny list is used for up to a second.
    assert_eq!(place.found().await.1.len(), 0);
    let lines = place.lines().await;
    assert!(lines[1]["found"] == 1 && lines[1]["outcome"] == "denied", "{lines:?}");
}

#[tokio::test]
async fn a_link_on_the_disk_is_no_way_around_the_deny_file() {
    let place = Denying::new("", |_| {});
    place.site.put("private/conversation.wav", &wav(1));
    place.site.put("public/other.wav", &wav(1));
    let name = place.site.dir.path().join("public/in-1711444502.17.wav");
    std::os::unix::fs::symlink("../private/conversation.wav", name).unwrap();
    let link = place.site.link(&ours("")).await;
    place.deny("private/");
    assert_eq!(place.found().await.1.len(), 0);
    assert_eq!(place.site.fetch(&link, &[]).await.status(), 410);
}

#[tokio::test]
async fn where_a_recording_is_denied_the_next_root_is_asked() {
    let mut roots = Vec::new();
    let place = Denying::new("/pbx", |settings| {
        let nas = settings.storage.roots[0].root().parent().unwrap().join("nas");
        settings.storage.roots.push(Pattern::parse(nas.to_str().unwrap()).unwrap());
        settings.storage.mode = SearchMode::First;
        roots.clone_from(&settings.storage.roots);
    });
    place.site.put("pbx/x-1711444502.17.wav", &wav(1));
    place.site.put("nas/y-1711444502.17.wav", &wav(1));
    assert_eq!(place.found().await.1, ["x-1711444502.17.wav"]);
    place.deny(&format!("{}/*", roots[0].root().display()));
    assert_eq!(place.found().await.1, ["y-1711444502.17.wav"]);
}

#[tokio::test]
async fn a_delivery_under_way_is_cut_and_its_listener_may_pause() {
    let place = Denying::new("", |_| {});
    place.site.put(NAME, &wav(60));
    let link = place.site.link(&ours("")).await;
    let mut running = place.site.fetch(&link, &[]).await;
    running.body_mut().frame().await.unwrap().unwrap();
    let AgentAnswer { response: paused, revocation, .. } = place.site.fetch_all(&link, &[]).await;
    let revocation = revocation.unwrap();
    place.deny("*");
    tokio::time::timeout(Duration::from_secs(10), revocation).await.unwrap();
    drop(paused);
    let mut body = running.into_body();
    assert!(body.frame().await.unwrap().is_err() && body.frame().await.is_none());
    drop(body);
    let lines = place.lines().await;
    let ends: Vec<_> = lines[1..].iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(ends, ["denied", "denied"]);
}

#[tokio::test]
async fn another_deny_file_takes_effect_with_the_configuration() {
    let place = Denying::new("", |_| {});
    place.site.put(NAME, &wav(1));
    let path: PathBuf = place.dir.path().join("other");
    fs::write(&path, CALL).unwrap();
    let call_ids = CallIdRules::default();
    let rules = deny_list::read(&path, &call_ids).unwrap().into();
    let root = Pattern::parse(place.site.dir.path().to_str().unwrap()).unwrap();
    let mut settings = settings(root);
    settings.access = Access::new(Some(&Secret::new(TOKEN)), &[], None).unwrap();
    place
        .site
        .service
        .renew(ServiceSettings { deny: Some(DenySettings { path, call_ids, rules }), ..settings.clone() });
    assert_eq!(place.found().await.1.len(), 0);
    place.site.service.renew(settings);
    assert_eq!(place.found().await.1.len(), 1);
}
