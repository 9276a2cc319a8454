//! Tests of the service from the client's side: following a link, and playing.

use super::*;

#[tokio::test]
async fn links_that_were_altered_or_have_ended_do_not_open() {
    let site = Site::new("");
    site.put(NAME, &wav(1));
    let link = site.link(&ours("")).await;
    let (token, _) = link.rsplit_once('/').unwrap();
    let mut forged = token.to_owned();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    for (path, expected) in [
        (format!("{forged}/recording.wav"), 403),
        (format!("{token}/recording.mp3"), 403),
        (format!("{token}/{NAME}"), 403),
        (format!("{token}/recording.WAV"), 403),
        ("/recordings/%FF/recording.wav".to_owned(), 403),
    ] {
        let response = site.fetch(&path, &[]).await;
        assert_eq!(response.status(), expected, "{path}");
        assert_eq!(header(&response, "cache-control"), "private, no-store");
    }
    let other = Site::new("").fetch(&link, &[]).await;
    assert_eq!(other.status(), 410, "made in another run");
    let short = Site::with("", |settings| settings.links.ttl = Duration::ZERO);
    short.put(NAME, &wav(1));
    let link = short.link(&ours("")).await;
    assert_eq!(short.fetch(&link, &[]).await.status(), 410, "expired");
}

#[tokio::test]
async fn a_recording_that_was_deleted_is_gone() {
    let site = Site::new("");
    site.put(NAME, &wav(1));
    let link = site.link(&ours("")).await;
    fs::remove_file(site.dir.path().join(NAME)).unwrap();
    let AgentAnswer { response, audit, .. } = site.fetch_all(&link, &[]).await;
    assert_eq!(response.status(), 404);
    assert!(audit.is_some(), "the attempt is on record");
}

#[tokio::test]
async fn ranges_arrive_byte_for_byte() {
    let site = Site::new("");
    let content = wav(20);
    let size = content.len();
    site.put(NAME, &content);
    let link = site.link(&ours("")).await;
    for (range, first, last) in [
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=100-99999".to_owned(), 100, 99_999),
        ("bytes=300000-".to_owned(), 300_000, size - 1),
        ("bytes=-1000".to_owned(), size - 1000, size - 1),
        (format!("bytes={}-", size - 1), size - 1, size - 1),
    ] {
        let response = site.fetch(&link, &[("range", &range)]).await;
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(header(&response, "content-range"), format!("bytes {first}-{last}/{size}"));
        assert_eq!(header(&response, "content-length"), (last - first + 1).to_string());
        assert!(body(response).await == content[first..=last], "{range}");
    }
    let beyond = site.fetch(&link, &[("range", &format!("bytes={size}-"))]).await;
    assert_eq!(
        (beyond.status().as_u16(), header(&beyond, "content-range")),
        (416, &*format!("bytes */{size}"))
    );
    let several = site.fetch(&link, &[("range", "bytes=0-1,5-6")]).await;
    assert_eq!(several.status(), 200);
    assert!(body(several).await == content);
}

#[tokio::test]
async fn conditions_follow_the_validators() {
    let site = Site::new("");
    site.put(NAME, &wav(1));
    let link = site.link(&ours("")).await;
    let first = site.fetch(&link, &[]).await;
    let tag = header(&first, "etag").to_owned();
    let date = header(&first, "last-modified").to_owned();
    assert!(tag.starts_with('"') && !date.is_empty());
    for (headers, expected) in [
        (vec![("if-none-match", &*tag)], 304),
        (vec![("if-modified-since", &*date)], 304),
        (vec![("if-match", "\"other\"")], 412),
        (vec![("range", "bytes=0-9"), ("if-range", &*tag)], 206),
        (vec![("range", "bytes=0-9"), ("if-range", &*date)], 206),
        (vec![("range", "bytes=0-9"), ("if-range", "\"other\"")], 200),
    ] {
        assert_eq!(site.fetch(&link, &headers).await.status(), expected, "{headers:?}");
    }
    fs::write(site.dir.path().join(NAME), wav(2)).unwrap();
    set_age(site.dir.path().join(NAME), Duration::from_secs(60));
    let changed = site.fetch(&link, &[("if-none-match", &tag)]).await;
    assert_eq!(changed.status(), 200, "another content has another tag");
}

#[tokio::test]
async fn a_young_file_has_no_validators() {
    let site = Site::new("");
    // An hour in the future, so that the file counts as young even if this test is slow.
    site.put(NAME, &wav(1));
    let file = fs::File::options().write(true).open(site.dir.path().join(NAME)).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(3600)).unwrap();
    let response = site.fetch(&site.link(&ours("")).await, &[]).await;
    assert_eq!(
        (response.status().as_u16(), header(&response, "etag"), header(&response, "last-modified")),
        (200, "", "")
    );
}

#[tokio::test]
async fn head_returns_everything_but_the_sound() {
    let site = Site::new("");
    site.put("año-1711444502.17.mp3", b"not really an mp3");
    let link = site.link(&ours("")).await;
    let head =
        Request::head(format!("{link}?download=1")).header("range", "bytes=0-0").body(Body::empty()).unwrap();
    let response = site.ask(head).await;
    assert_eq!(response.status(), 200, "ranges are for GET");
    for (name, value) in [
        ("content-length", "17"),
        ("content-type", "audio/mpeg"),
        ("accept-ranges", "bytes"),
        (
            "content-disposition",
            "attachment; filename=\"a_o-1711444502.17.mp3\"; filename*=UTF-8''a%C3%B1o-1711444502.17.mp3",
        ),
        ("cache-control", "private, no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", "noindex"),
        ("content-security-policy", "sandbox"),
    ] {
        assert_eq!(header(&response, name), value, "{name}");
    }
    assert!(body(response).await.is_empty());
}

#[tokio::test]
async fn a_file_that_shrinks_under_way_cuts_the_body() {
    let site = Site::new("");
    site.put(NAME, &wav(60));
    let response = site.fetch(&site.link(&ours("")).await, &[]).await;
    let file = fs::File::options().write(true).open(site.dir.path().join(NAME)).unwrap();
    file.set_len(300_000).unwrap();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn no_more_downloads_run_than_may_and_a_place_is_given_back() {
    let site = Site::with("", |settings| settings.max_streams = 2);
    site.put(NAME, &wav(60));
    let link = site.link(&ours("")).await;
    let first = site.fetch(&link, &[]).await;
    let second = site.fetch(&link, &[("range", "bytes=10-19")]).await;
    let refused = site.fetch(&link, &[]).await;
    assert_eq!((refused.status(), header(&refused, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "2"));
    assert!(second.into_body().collect().await.is_ok());
    assert_eq!(site.fetch(&link, &[]).await.status(), 200, "one has ended");
    drop(first);
    assert_eq!(site.fetch(&link, &[("if-none-match", "*")]).await.status(), 304);
    assert_eq!(site.fetch(&link, &[]).await.status(), 200, "one was left");
}

#[tokio::test(start_paused = true)]
async fn downloads_keep_to_the_rate_and_arrive_whole() {
    let site = Site::with("", |settings| {
        settings.max_rate = Schedule::parse(["2Mbit"], jiff::tz::TimeZone::UTC).unwrap();
    });
    site.put(NAME, &wav(60));
    let link = site.link(&ours("")).await;
    let began = tokio::time::Instant::now();
    let body = site.fetch(&link, &[]).await.into_body().collect().await.unwrap().to_bytes();
    assert!(body == wav(60), "960,044 bytes");
    // 3.84 s of uplink, less the burst.
    assert!(began.elapsed() > Duration::from_millis(3500), "{:?}", began.elapsed());
}
