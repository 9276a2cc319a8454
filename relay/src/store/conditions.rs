//! Builds a WHERE clause from fixed names and bound values. sqlx's own builder writes `?` for every database,
//! which PostgreSQL does not understand.

use sqlx::{Any, AnyPool, AssertSqlSafe, any::AnyRow, query::Query};

/// A value that is bound.
#[derive(Debug)]
enum Value {
    Text(String),
    Number(i64),
}

/// Conditions that must all be true. Names of columns are literals of this program; values are always bound.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    clauses: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    /// A condition without values.
    pub(super) fn also(&mut self, clause: &'static str) {
        self.clauses.push(clause.to_owned());
    }

    pub(super) fn equal(&mut self, column: &'static str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            let place = self.bind(Value::Text(value.into()));
            self.clauses.push(format!("{column} = {place}"));
        }
    }

    /// One of the two columns has the value.
    pub(super) fn either(&mut self, first: &'static str, second: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            let places = [(); 2].map(|()| self.bind(Value::Text(value.to_owned())));
            self.clauses.push(format!("({first} = {} OR {second} = {})", places[0], places[1]));
        }
    }

    /// The column has one of these values. If there are none, no row matches.
    pub(super) fn one_of<'v>(&mut self, column: &'static str, values: impl Iterator<Item = &'v str>) {
        let places: Vec<_> = values.map(|value| self.bind(Value::Text(value.to_owned()))).collect();
        self.clauses.push(if places.is_empty() {
            "1 = 0".to_owned()
        } else {
            format!("{column} IN ({})", places.join(", "))
        });
    }

    pub(super) fn at_least(&mut self, column: &'static str, value: Option<i64>) {
        if let Some(value) = value {
            let place = self.bind(Value::Number(value));
            self.clauses.push(format!("{column} >= {place}"));
        }
    }

    pub(super) fn below(&mut self, column: &'static str, value: Option<i64>) {
        if let Some(value) = value {
            let place = self.bind(Value::Number(value));
            self.clauses.push(format!("{column} < {place}"));
        }
    }

    /// The row comes before a position in the order of a number and a text.
    pub(super) fn before(&mut self, columns: [&'static str; 2], number: i64, text: &str) {
        let number = self.bind(Value::Number(number));
        let text = self.bind(Value::Text(text.to_owned()));
        let [first, second] = columns;
        self.clauses.push(format!("({first} < {number} OR ({first} = {number} AND {second} < {text}))"));
    }

    pub(super) async fn fetch(
        self,
        select: &'static str,
        order: &str,
        pool: &AnyPool,
    ) -> Result<Vec<AnyRow>, sqlx::Error> {
        let filter = if self.clauses.is_empty() { "1 = 1".to_owned() } else { self.clauses.join(" AND ") };
        // Every piece is a literal of this program or a number.
        let sql = AssertSqlSafe(format!("{select} WHERE {filter} {order}"));
        let query = self.values.into_iter().fold(sqlx::query(sql), bind);
        query.fetch_all(pool).await
    }

    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }
}

fn bind(
    query: Query<'_, Any, sqlx::any::AnyArguments>,
    value: Value,
) -> Query<'_, Any, sqlx::any::AnyArguments> {
    match value {
        Value::Text(text) => query.bind(text),
        Value::Number(number) => query.bind(number),
    }
}
