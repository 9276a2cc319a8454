//! The picture of the dashboard in README.md: sites in every state, with real agents.

use harness::{
    agent::{Agent, AgentOptions},
    browser::{Browser, BrowserOptions},
    client::{client, search},
    recordings::{CALL, wav, write},
    relay::{Relay, Site},
};
use tempfile::TempDir;

/// Recordings of a site; the one of the usual call is among them.
fn recordings(count: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..count {
        write(dir.path(), format!("in-100-1711441{n:03}.{n}.wav"), &wav(0.1, 1));
    }
    write(dir.path(), format!("in-{CALL}.wav"), &wav(1.0, 1));
    dir
}

/// An agent on a machine with this name.
async fn agent(relay: &Relay, site: &Site, host: &str, recordings: &TempDir) -> Agent {
    let named = format!("hostname {host}; exec \"$@\"");
    let starter = ["unshare", "--map-root-user", "--uts", "sh", "-c", &named, "sh"];
    Agent::start(relay, site, AgentOptions::new(recordings.path()).started_by(&starter)).await
}

#[tokio::test]
async fn the_board_shows_sites_in_every_state() {
    let relay = Relay::start().await;
    relay.add_user("maria", &["--role", "admin", "--playback"]).await;
    let add = async |name: &str, note: &str| relay.add_site_with(name, &["--note", note]).await;
    let madrid = add("acme-madrid", "Acme, Madrid").await;
    let lima = add("globex-lima", "Globex, Lima").await;
    let bogota = add("initech-bogota", "Initech, Bogotá").await;
    let quito = add("hooli-quito", "Hooli, Quito").await;
    let sevilla = add("umbrella-sevilla", "Umbrella, Sevilla").await;
    add("vandelay-cali", "Vandelay, Cali").await;
    add("wayne-merida", "Wayne, Mérida").await;
    relay.site_command(&["disable", "wayne-merida"]).await;

    let directories = [400, 250, 120, 3].map(recordings);
    let [many, some, few, gone] = &directories;
    let _first = agent(&relay, &madrid, "pbx1-madrid", many).await;
    let _second = agent(&relay, &lima, "freepbx-lima", some).await;
    let _third = agent(&relay, &bogota, "issabel-bogota", few).await;
    let ended = agent(&relay, &quito, "pbx-quito", few).await;
    let _unreadable = agent(&relay, &sevilla, "pbx-sevilla", gone).await;
    let client = client(&relay);
    for (site, searches) in [(&madrid, 42), (&lima, 17), (&bogota, 5)] {
        for _ in 0..searches {
            search(&client, site, CALL, &[]).await;
        }
    }
    std::fs::remove_dir_all(gone.path()).unwrap();
    ended.process.kill().await;

    let options = BrowserOptions { window: (1440, 980), ..BrowserOptions::default() };
    let browser = Browser::start_with(options).await;
    browser.log_in(&relay, "maria").await;
    browser.open(&relay.admin_url()).await;
    for state in ["up", "degraded", "down", "never_seen", "disabled"] {
        browser.find(&format!("tr .state-{state}")).await;
    }
    browser.wait_until("document.querySelector('[data-site=acme-madrid] [data-field=searches_last_hour]').textContent === '42'").await;
    browser.screenshot("dashboard").await;
    browser.close().await;
}
