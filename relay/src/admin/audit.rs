//! The audit for operators: read, exported and erased from, alike for the pages and the API, and never beyond what the
//! reader may see.

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header;

use super::{AdminState, Refused};
use crate::{
    audit::{AuditEvent, export},
    auth::{Permission, Principal},
    store::{AuditFilter, StoreError},
};

impl AdminState {
    /// Events, the newest first, at most `limit`.
    pub(crate) async fn audit(
        &self,
        reader: &Principal,
        filter: AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        self.auth.store().audit(&visible(reader, filter), limit).await
    }

    /// Events as CSV; read and sent piece by piece, for as long as somebody takes them.
    pub(crate) fn audit_csv(&self, reader: &Principal, filter: AuditFilter) -> Response {
        let mut head = Vec::new();
        // Writing into memory does not fail.
        let _ = export::write_header(&mut head);
        let rest = self.auth.store().audit_pages(visible(reader, filter)).map_ok(|events| {
            let mut lines = Vec::new();
            let _ = export::write_events(&mut lines, &events);
            Bytes::from(lines)
        });
        let body = Body::from_stream(stream::iter([Ok(Bytes::from(head))]).chain(rest));
        let headers = [
            (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
            (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.csv\""),
        ];
        (headers, body).into_response()
    }

    /// Removes every event of a call. Returns how many there were.
    pub(crate) async fn erase_call(&self, who: &Principal, call_id: &str) -> Result<u64, Refused> {
        who.require(Permission::EraseAudit)?;
        if call_id.trim().is_empty() {
            return Err(Refused::unprocessable("name the call whose events are to be erased"));
        }
        let erased = self.auth.store().erase_call(call_id).await?;
        tracing::info!(actor = %who.name, erased, "a call is erased from the audit");
        Ok(erased)
    }
}

/// What is asked for, cut down to what the reader may see.
fn visible(reader: &Principal, filter: AuditFilter) -> AuditFilter {
    let within = reader.rights.scope.sites().map(|sites| sites.iter().cloned().collect());
    AuditFilter { within, ..filter }
}
