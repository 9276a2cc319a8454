//! Tests of the service with a browser that cannot play the format on disk.

use audiovault_agent_core::testing::{RANDOM_GSM, coded_wav};

use super::*;

const GSM: &str = "in-600-34911223344-20240326-101502-1711444502.17.gsm";

/// GSM frames that all differ: 12 s, which decoded is longer than one chunk.
fn gsm() -> Vec<u8> {
    RANDOM_GSM.repeat(6)
}

fn pairs() -> Vec<u8> {
    let sound: Vec<u8> = (0..65 * 500u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    coded_wav(0x31, 1, 65, &sound)
}

#[tokio::test]
async fn a_search_describes_what_the_link_delivers() {
    let site = Site::new("");
    let gsm = gsm();
    let pairs = pairs();
    for (name, content, size, seconds) in [
        (GSM, &gsm, 44 + 600 * 320, 12.0),
        ("x-1711444502.17.WAV", &pairs, 44 + 500 * 640, 20.0),
        ("x-1711444502.17.ulaw", &vec![0; 8_000], 44 + 16_000, 1.0),
    ] {
        site.put(name, content);
        let (_, found) = site.search(&ours("")).await;
        let file = &found["files"][0];
        let (stem, _) = name.rsplit_once('.').unwrap();
        assert_eq!(file["filename"], format!("{stem}.wav"));
        assert_eq!(file["original"], name);
        assert_eq!((&file["size"], &file["duration"]), (&size.into(), &seconds.into()), "{name}");
        assert_eq!(file["content_type"], "audio/wav");
        let link = site.link(&ours("")).await;
        assert!(link.ends_with("/recording.wav"), "{link}");
        let AgentAnswer { response: played, audit, .. } = site.fetch_all(&link, &[]).await;
        assert_eq!(audit.unwrap().bytes_per_second, Some(16_000));
        assert_eq!(header(&played, "content-length"), size.to_string());
        assert_eq!(header(&played, "content-type"), "audio/wav");
        let disposition = format!("inline; filename=\"{stem}.wav\"");
        assert_eq!(header(&played, "content-disposition"), disposition);
        let bytes = body(played).await;
        assert!(bytes.starts_with(b"RIFF") && bytes.len() == usize::try_from(size).unwrap(), "{name}");
        fs::remove_file(site.dir.path().join(name)).unwrap();
    }
    site.put(NAME, &wav(1));
    let (_, found) = site.search(&ours("")).await;
    assert!(found["files"][0].get("original").is_none(), "it is delivered as it is");
}

#[tokio::test]
async fn ranges_are_slices_of_what_is_decoded() {
    let site = Site::new("");
    for (name, content) in [(GSM, gsm()), ("x-1711444502.17.WAV", pairs())] {
        site.put(name, &content);
        let link = site.link(&ours("")).await;
        let whole = body(site.fetch(&link, &[]).await).await;
        let size = whole.len();
        for (range, first, last) in [
            ("bytes=0-0".to_owned(), 0, 0),
            ("bytes=40-50".to_owned(), 40, 50),
            ("bytes=43-44".to_owned(), 43, 44),
            ("bytes=10001-".to_owned(), 10_001, size - 1),
            ("bytes=364-683".to_owned(), 364, 683),
            ("bytes=-1000".to_owned(), size - 1000, size - 1),
            (format!("bytes={}-", size - 1), size - 1, size - 1),
        ] {
            let response = site.fetch(&link, &[("range", &range)]).await;
            assert_eq!(response.status(), 206, "{range}");
            assert_eq!(header(&response, "content-range"), format!("bytes {first}-{last}/{size}"));
            assert!(body(response).await == whole[first..=last], "{range}");
        }
        let beyond = site.fetch(&link, &[("range", &format!("bytes={size}-"))]).await;
        assert_eq!(beyond.status(), 416);
        fs::remove_file(site.dir.path().join(name)).unwrap();
    }
}

#[tokio::test]
async fn the_original_is_had_for_the_asking_and_through_the_link_alone() {
    let site = Site::new("");
    site.put(GSM, &gsm());
    let link = site.link(&ours("")).await;
    let AgentAnswer { response: original, audit, .. } =
        site.fetch_all(&format!("{link}?original=1&download=1"), &[]).await;
    assert_eq!(header(&original, "content-type"), "audio/x-gsm");
    assert_eq!(header(&original, "content-disposition"), format!("attachment; filename=\"{GSM}\""));
    assert_eq!(audit.unwrap().bytes_per_second, Some(1_650));
    let tag = header(&original, "etag").to_owned();
    assert!(body(original).await == gsm());
    let part = site.fetch(&format!("{link}?original=1"), &[("range", "bytes=33-65")]).await;
    assert!(body(part).await == gsm()[33..66]);
    let decoded = site.fetch(&format!("{link}?original=0"), &[]).await;
    let other = header(&decoded, "etag").to_owned();
    assert!(tag.starts_with('"') && other.starts_with('"') && tag != other, "{tag} {other}");
    assert_eq!(header(&decoded, "content-type"), "audio/wav");
    let forged = link.replace("/recordings/", "/recordings/A");
    assert_eq!(site.fetch(&format!("{forged}?original=1"), &[]).await.status(), 403);
    let renamed = link.replace("recording.wav", "recording.gsm");
    assert_eq!(site.fetch(&format!("{renamed}?original=1"), &[]).await.status(), 403);
    site.put(NAME.replace(".17", ".18").as_str(), &wav(1));
    let plain = site.link(&format!("token={TOKEN}&callid=1711444502.18")).await;
    assert!(body(site.fetch(&format!("{plain}?original=1"), &[]).await).await == wav(1), "nothing changes");
}

#[tokio::test]
async fn each_form_has_its_own_validators() {
    let site = Site::new("");
    site.put(GSM, &gsm());
    let link = site.link(&ours("")).await;
    let original = format!("{link}?original=1");
    let tag_of = async |link: &str| header(&site.fetch(link, &[]).await, "etag").to_owned();
    let tag = tag_of(&link).await;
    let other = tag_of(&original).await;
    let date = header(&site.fetch(&link, &[]).await, "last-modified").to_owned();
    for (headers, expected) in [
        (vec![("if-none-match", &*tag)], 304),
        (vec![("if-none-match", &*other)], 200),
        (vec![("if-modified-since", &*date)], 304),
        (vec![("if-match", &*other)], 412),
        (vec![("range", "bytes=0-9"), ("if-range", &*tag)], 206),
        (vec![("range", "bytes=0-9"), ("if-range", &*other)], 200),
    ] {
        assert_eq!(site.fetch(&link, &headers).await.status(), expected, "{headers:?}");
    }
    assert_eq!(site.fetch(&original, &[("if-none-match", &other)]).await.status(), 304);
    let head = site.ask(Request::head(&link).body(Body::empty()).unwrap()).await;
    assert_eq!((header(&head, "content-length"), header(&head, "etag")), ("192044", &*tag));
    assert!(body(head).await.is_empty());
}

#[tokio::test]
async fn a_recording_that_still_grows_is_delivered_to_where_it_was() {
    let site = Site::new("");
    let path = site.dir.path().join(GSM);
    put_aged(&path, &gsm()[..33 * 10 + 20], Duration::ZERO);
    let (_, found) = site.search(&ours("")).await;
    let file = &found["files"][0];
    assert_eq!((&file["size"], &file["growing"]), (&(44 + 3_200).into(), &true.into()));
    let link = site.link(&ours("")).await;
    let response = site.fetch(&link, &[]).await;
    fs::write(&path, gsm()).unwrap();
    assert_eq!(body(response).await.len(), 44 + 3_200, "as long as was said");
    assert_eq!(body(site.fetch(&link, &[]).await).await.len(), 44 + 600 * 320);
    put(&path, b"");
    let (_, found) = site.search(&ours("")).await;
    assert_eq!((&found["files"][0]["empty"], &found["files"][0]["size"]), (&true.into(), &44.into()));
}

#[tokio::test]
async fn a_recording_that_shrinks_under_way_cuts_the_body() {
    let site = Site::new("");
    site.put(GSM, &gsm());
    let response = site.fetch(&site.link(&ours("")).await, &[]).await;
    fs::File::options().write(true).open(site.dir.path().join(GSM)).unwrap().set_len(5_000).unwrap();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn what_is_no_gsm_is_delivered_as_it_is() {
    let site = Site::new("");
    site.put(GSM, b"not really GSM");
    let (_, found) = site.search(&ours("")).await;
    let file = &found["files"][0];
    assert_eq!((&file["filename"], &file["content_type"]), (&GSM.into(), &"audio/x-gsm".into()));
    let response = site.fetch(&site.link(&ours("")).await, &[]).await;
    assert_eq!(header(&response, "content-type"), "audio/x-gsm");
    assert_eq!(&body(response).await[..], b"not really GSM");
}

#[tokio::test]
async fn of_twins_the_better_sound_is_offered() {
    let site = Site::new("");
    site.put(GSM, &gsm());
    site.put(&GSM.replace(".gsm", ".g729"), b"x");
    let offered =
        async || site.search(&ours("")).await.1["files"][0]["filename"].as_str().unwrap().to_owned();
    assert!(offered().await.ends_with(".wav"), "GSM can be played, G.729 cannot");
    site.put(&GSM.replace(".gsm", ".mp3"), b"x");
    assert!(offered().await.ends_with(".mp3"));
}
