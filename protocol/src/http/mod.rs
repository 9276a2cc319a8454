//! What crosses as HTTP: headers, parameters, problem details, search answers.

pub mod context;
pub mod disposition;
pub mod headers;
pub mod parameters;
pub mod problem;
pub mod search_answer;
