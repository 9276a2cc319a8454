//! The steps that bring a database to today's schema. Both kinds of databases have the same steps.
//!
//! sqlx has a macro that reads the directories. It comes with a procedural macro that needs the whole of sqlx, with
//! its databases and TLS, compiled a second time for the compiler itself; this list costs nothing.

use std::sync::LazyLock;

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// The steps of one kind of database: number, name, and the statements.
type Steps = [(i64, &'static str, &'static str); STEPS];

/// How many steps there are.
pub(super) const STEPS: usize = 11;

macro_rules! steps {
    ($directory:literal) => {
        [
            (1, "sites", include_str!(concat!($directory, "/0001_sites.sql"))),
            (2, "history", include_str!(concat!($directory, "/0002_history.sql"))),
            (3, "users", include_str!(concat!($directory, "/0003_users.sql"))),
            (4, "enrolments", include_str!(concat!($directory, "/0004_enrolments.sql"))),
            (5, "routes", include_str!(concat!($directory, "/0005_routes.sql"))),
            (6, "audit runs", include_str!(concat!($directory, "/0006_audit_runs.sql"))),
            (7, "operator events", include_str!(concat!($directory, "/0007_operator_events.sql"))),
            (8, "resting names", include_str!(concat!($directory, "/0008_resting_names.sql"))),
            (9, "erasure key", include_str!(concat!($directory, "/0009_erasure_key.sql"))),
            (11, "token owners", include_str!(concat!($directory, "/0011_token_owners.sql"))),
            (12, "site networks", include_str!(concat!($directory, "/0012_site_networks.sql"))),
        ]
    };
}

const SQLITE_STEPS: Steps = steps!("sqlite");
const POSTGRES_STEPS: Steps = steps!("postgres");

/// The steps of a SQLite database.
pub(super) static SQLITE: LazyLock<Migrator> = LazyLock::new(|| migrator(SQLITE_STEPS));

/// The steps of a PostgreSQL database.
pub(super) static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| migrator(POSTGRES_STEPS));

fn migrator(steps: Steps) -> Migrator {
    let migration = |(number, name, statements): (i64, &'static str, &'static str)| {
        Migration::new(number, name.into(), MigrationType::Simple, SqlStr::from_static(statements), false)
    };
    Migrator::with_migrations(steps.map(migration).into())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_file_is_a_step() {
        for (directory, steps) in [("sqlite", SQLITE_STEPS), ("postgres", POSTGRES_STEPS)] {
            let directory =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations").join(directory);
            let mut files: Vec<_> =
                fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            let listed: Vec<_> = steps
                .iter()
                .map(|(number, name, statements)| {
                    (format!("{number:04}_{}.sql", name.replace(' ', "_")), (*statements).to_owned())
                })
                .collect();
            let found: Vec<_> = files
                .iter()
                .map(|file| {
                    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
                    (name, fs::read_to_string(file).unwrap())
                })
                .collect();
            assert_eq!(listed, found);
        }
    }
}
