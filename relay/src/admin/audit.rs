//! Reads, exports and erases events of the audit log, and reads the operators' events, for the pages and for the API.
//!
//! A reader gets only the events of the sites that the reader may see. Each read is recorded in the operators' events
//! first; if that fails, no events are returned.

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::SiteId;
use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::header;

use super::{AdminState, errors};
use crate::{
    admin::auth::Principal,
    audit::export::{CsvRow, write_header, write_rows},
    model::{
        account::Permission,
        audit::AuditEvent,
        operator_events::{Action, OperatorEvent},
    },
    store::{AuditFilter, OperatorFilter, StoreError},
};

impl AdminState {
    /// Events of the audit log, newest first, at most `limit`.
    pub(crate) async fn audit(
        &self,
        reader: &Principal,
        filter: AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        let store = self.auth.store();
        store.record(&reader.actor(), &filter.entry(Action::AuditRead)).await?;
        store.audit(&visible(reader, filter), limit).await
    }

    /// Events of the audit log as CSV. Reads and sends them piece by piece, as fast as the client takes them.
    pub(crate) async fn audit_csv(
        &self,
        reader: &Principal,
        filter: AuditFilter,
    ) -> Result<Response, StoreError> {
        let store = self.auth.store();
        store.record(&reader.actor(), &filter.entry(Action::AuditExported)).await?;
        Ok(csv(store.audit_pages(visible(reader, filter)), "attachment; filename=\"audit.csv\""))
    }

    /// Operators' events, newest first, at most `limit`.
    pub(crate) async fn operator_events(
        &self,
        reader: &Principal,
        filter: OperatorFilter,
        limit: u32,
    ) -> Result<Vec<OperatorEvent>, StoreError> {
        let store = self.auth.store();
        store.record(&reader.actor(), &filter.entry(Action::EventsRead)).await?;
        store.operator_events(&visible_events(reader, filter), limit).await
    }

    /// Operators' events as CSV. Reads and sends them piece by piece, as fast as the client takes them.
    pub(crate) async fn operator_events_csv(
        &self,
        reader: &Principal,
        filter: OperatorFilter,
    ) -> Result<Response, StoreError> {
        let store = self.auth.store();
        store.record(&reader.actor(), &filter.entry(Action::EventsExported)).await?;
        let pages = store.operator_event_pages(visible_events(reader, filter));
        Ok(csv(pages, "attachment; filename=\"operator-events.csv\""))
    }

    /// Erases every event of a call. Returns the number of erased events.
    pub(crate) async fn erase_call(
        &self,
        who: &Principal,
        call_id: &str,
        reason: &str,
    ) -> Result<u64, HttpError> {
        who.require(Permission::EraseAudit)?;
        if call_id.trim().is_empty() {
            return Err(errors::unprocessable("give the id of the call to erase"));
        }
        let erased = self.auth.store().erase_call(&who.actor().because(reason), call_id).await?;
        tracing::info!(
            actor = %who.name,
            erased,
            code = "audit_log.call_erased",
            "a call was erased from the audit log"
        );
        Ok(erased)
    }
}

/// Rows as CSV. The next page of rows is read when the client has taken the one before.
fn csv<R: CsvRow<COLUMNS>, const COLUMNS: usize>(
    pages: impl Stream<Item = Result<Vec<R>, StoreError>> + Send + 'static,
    disposition: &'static str,
) -> Response {
    let mut head = Vec::new();
    // Writing into memory does not fail.
    let _ = write_header::<R, COLUMNS>(&mut head);
    let rest = pages.map_ok(|rows| {
        let mut lines = Vec::new();
        let _ = write_rows(&mut lines, &rows);
        Bytes::from(lines)
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    (headers, Body::from_stream(stream::iter([Ok(Bytes::from(head))]).chain(rest))).into_response()
}

/// The filter, limited to the sites that the reader may see.
fn visible(reader: &Principal, filter: AuditFilter) -> AuditFilter {
    AuditFilter { within: sites_of(reader), ..filter }
}

fn visible_events(reader: &Principal, filter: OperatorFilter) -> OperatorFilter {
    OperatorFilter { within: sites_of(reader), ..filter }
}

/// The only sites that the reader may see; `None` for all sites.
fn sites_of(reader: &Principal) -> Option<Vec<SiteId>> {
    reader.rights.scope.sites().map(|sites| sites.iter().cloned().collect())
}
