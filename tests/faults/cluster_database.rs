//! Relays that share a PostgreSQL server continue without it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use harness::{
    client::{body, search, search_with, send},
    matrix,
    process::PATIENCE,
    recordings::CALL,
    relay::Site,
};
use sqlx::PgConnection;

use crate::{cluster::Setting, load::keep_searching, setting::ms};

#[tokio::test]
async fn a_database_that_is_down_for_half_a_minute_costs_no_request_and_no_event() {
    let Some(mut setting) = Setting::new(2).await else { return };
    let early = setting.agent().await;
    let holder = setting.cluster.holder("acme").await;
    let here = setting.cluster.at(holder, &setting.site);
    let there = setting.cluster.at(1 - holder, &setting.site);
    let mut server = setting.cluster.server.take().unwrap();
    let away = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.stop().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        // An agent with a known key can connect.
        let late = setting.agent().await;
        // Unknown sites and keys cannot be judged.
        let unknown_site =
            Site { search_url: setting.site.search_url.replace("acme", "nobody"), ..setting.site.clone() };
        let refused = search_with(&setting.client, &unknown_site, CALL, &[]).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (503, &"10".parse().unwrap())
        );
        let unknown = setting.site.site_key.replace("avk_acme_", "avk_nobody_");
        let dialled =
            setting.client.get(format!("http://{}/tunnel", setting.cluster.address)).bearer_auth(unknown);
        assert_eq!(send(dialled).await.status(), 503);
        // The known site works. The relays cannot report to each other where the other site is.
        drop(early);
        tokio::time::sleep(Duration::from_secs(20)).await;
        for relay in &setting.cluster.relays {
            let ready = send(setting.client.get(format!("{}/readyz", relay.admin_url()))).await;
            assert_eq!(body(ready).await, (200, b"ready, but the database does not answer\n".to_vec()));
        }
        server.run().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        late
    };
    let stop = AtomicBool::new(false);
    let away = async {
        let late = away.await;
        stop.store(true, Ordering::Relaxed);
        late
    };
    let (_late, here, there) = tokio::join!(
        away,
        keep_searching(&setting.client, &here, &stop),
        keep_searching(&setting.client, &there, &stop),
    );
    assert!(here.failures.is_empty(), "of {}: {:?}", here.asked, here.failures);
    assert!(there.failures.is_empty(), "of {}: {:?}", there.asked, there.failures);
    setting.cluster.relays[0].audit(here.asked + there.asked).await;
    let promise =
        "no search of a connected site fails, a known agent can connect and is found, no event is lost";
    let measured = format!(
        "0 of {} searches at the relay with the tunnel and 0 of {} at the other failed, slowest {} and {}; all in the \
         audit log",
        here.asked,
        there.asked,
        ms(here.slowest),
        ms(there.slowest),
    );
    matrix::row("cluster", "PostgreSQL stopped for 30 s", promise, measured);
}

#[tokio::test]
async fn a_relay_that_is_killed_while_the_database_is_down_loses_no_event() {
    let Some(mut setting) = Setting::new(1).await else { return };
    let _agent = setting.agent().await;
    let site = setting.cluster.at(0, &setting.site);
    let mut server = setting.cluster.server.take().unwrap();
    server.stop().await;
    for _ in 0..20 {
        search(&setting.client, &site, CALL, &[]).await;
    }
    let relay = &mut setting.cluster.relays[0];
    let spool = relay.spool_dir().join("journal.spool");
    let spooled =
        || std::fs::read_to_string(&spool).unwrap().lines().filter(|line| line.contains(CALL)).count();
    let waiting = Instant::now();
    while spooled() < 20 {
        // There is no event for a file that grows.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(waiting.elapsed() < PATIENCE, "{} of 20 searches are in the spool", spooled());
    }
    relay.kill().await;
    server.run().await;
    relay.restart().await;
    relay.audit(20).await;
    let promise = "every event is in the audit log afterwards, once";
    matrix::row(
        "cluster",
        "a relay killed while PostgreSQL is stopped",
        promise,
        "20 of 20 searches in the audit log",
    );
}

#[tokio::test]
async fn tunnels_that_the_database_has_wrong_are_corrected() {
    let Some(setting) = Setting::new(2).await else { return };
    let _agent = setting.agent().await;
    setting.cluster.holder("acme").await;
    let mut database = setting.cluster.server.as_ref().unwrap().connection().await;
    let open = async |database: &mut PgConnection| -> Vec<String> {
        let open = sqlx::query_scalar("SELECT session FROM tunnels WHERE closed_ms IS NULL");
        open.fetch_all(database).await.unwrap()
    };
    let mut here = open(&mut database).await;
    while here.is_empty() {
        here = open(&mut database).await;
    }
    // One tunnel whose end was never written, and the open one marked as closed as if its relay were dead.
    let begun = Instant::now();
    sqlx::raw_sql(
        "INSERT INTO tunnels SELECT 'feedfeedfeedfeedfeedfeed', site, run, instance, slot, agent_version, host, address, \
         opened_ms, NULL, NULL, link_key FROM tunnels; \
         UPDATE tunnels SET closed_ms = 1, reason = 'its relay was taken for dead' WHERE session NOT LIKE 'feed%'",
    )
    .execute(&mut database)
    .await
    .unwrap();
    while open(&mut database).await != here {
        // There is no event for a table that changes.
        assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", open(&mut database).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let promise = "the relay that holds them corrects this by itself";
    let measured = format!("corrected after {}", ms(begun.elapsed()));
    matrix::row("cluster", "open tunnels are marked as closed in the database", promise, measured);
}
