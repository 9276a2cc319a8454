//! Who is who: sites and their keys, enrolment codes, signed links.

pub mod enrolment;
pub mod signed_link;
pub mod site;
