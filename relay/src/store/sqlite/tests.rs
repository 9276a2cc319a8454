//! Tests that concern an SQLite file alone.

use std::{os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use super::super::{
    fresh::operator,
    tests::{new_site, site},
    *,
};

async fn open_file(path: &Path, if_missing: IfMissing) -> Result<Store, OpenError> {
    open(&DatabaseUrl::Sqlite(path.to_owned()), if_missing).await
}

async fn store_in(directory: &TempDir) -> Store {
    open_file(&directory.path().join("relay.db"), IfMissing::Create).await.unwrap()
}

#[tokio::test]
async fn a_new_database_is_readable_by_its_owner_alone() {
    let directory = TempDir::new().unwrap();
    let store = store_in(&directory).await;
    store.add_site(&operator(), &new_site("acme", &[], 1)).await.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        seen += 1;
    }
    assert!(seen >= 2, "the database and its write-ahead log");
}

#[tokio::test]
async fn a_missing_database_is_not_made_by_asking() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("relay.db");
    let error = open_file(&path, IfMissing::Refuse).await.unwrap_err();
    assert!(matches!(error, OpenError::Missing(_)), "{error:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_damaged_database_is_distinguished_from_a_missing_one() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("relay.db");
    std::fs::write(&path, "this is a letter, not a database".repeat(100)).unwrap();
    let error = open_file(&path, IfMissing::Create).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    let error = open_file(Path::new("/nowhere/at/all.db"), IfMissing::Create).await.unwrap_err();
    assert!(matches!(error, OpenError::Create { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_refused() {
    let directory = TempDir::new().unwrap();
    store_in(&directory).await.close().await;
    let path = directory.path().join("relay.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let error = open_file(&path, IfMissing::Create).await.unwrap_err();
    assert!(matches!(error, OpenError::NewerSchema(_)), "{error:?}");
}

#[tokio::test]
async fn a_change_that_the_database_itself_took_back_leaves_no_lock() {
    let directory = TempDir::new().unwrap();
    let one = store_in(&directory).await;
    let other = store_in(&directory).await;
    // What SQLite does with a transaction when the disk is full.
    let full = "CREATE TRIGGER full BEFORE INSERT ON sites BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
    sqlx::query(full).execute(&one.pool).await.unwrap();
    let error = one.add_site(&operator(), &new_site("acme", &[], 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Database(_)), "{error:?}");
    sqlx::query("DROP TRIGGER full").execute(&one.pool).await.unwrap();
    one.remove(&operator(), &site("nowhere")).await.unwrap_err();
    other.add_site(&operator(), &new_site("acme", &[], 1)).await.unwrap();
    one.add_site(&operator(), &new_site("umbrella", &[], 2)).await.unwrap();
    assert_eq!(other.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_database_that_was_replaced_is_noticed() {
    let directory = TempDir::new().unwrap();
    let store = store_in(&directory).await;
    let path = directory.path().join("relay.db");
    std::fs::rename(&path, directory.path().join("away")).unwrap();
    let error = store.generation().await.unwrap_err();
    assert!(matches!(error, StoreError::Moved(_)), "{error:?}");
    std::fs::rename(directory.path().join("away"), &path).unwrap();
    store.generation().await.unwrap();
}

#[tokio::test]
async fn a_backup_is_whole_private_and_replaces_nothing() {
    let directory = TempDir::new().unwrap();
    let store = store_in(&directory).await;
    store.add_site(&operator(), &new_site("acme", &["tenant"], 1)).await.unwrap();
    let copy = directory.path().join("copy.db");
    store.back_up(&operator(), &copy).await.unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let restored = open_file(&copy, IfMissing::Refuse).await.unwrap();
    assert_eq!(restored.list().await.unwrap().len(), 1);
    let error = store.back_up(&operator(), &copy).await.unwrap_err();
    assert!(matches!(error, BackupError::Exists(_)), "{error:?}");
    let error = store.back_up(&operator(), &directory.path().join("no/such/place")).await.unwrap_err();
    assert!(matches!(error, BackupError::Write { .. }), "{error:?}");
}
