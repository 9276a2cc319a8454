//! Sites and their tunnels, in parts: each part can be replaced on its own, so that no request waits until a million
//! sites are replaced.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use audiovault_protocol::identity::{signed_link::LinkKeyId, site::SiteId};
use data_encoding::HEXLOWER;

use crate::store::RouteRecord;

/// Number of parts: with a million sites, each part has four thousand.
pub(super) const PARTS: usize = 256;

/// A tunnel's id: the bytes of its 24 hexadecimal digits.
pub type SessionId = [u8; 12];

/// A tunnel of one site. Small, because there may be millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) session: SessionId,
    pub(super) key: LinkKeyId,
    /// The index of its relay among the nodes.
    pub(super) node: u32,
}

/// All sites with tunnels.
#[derive(Debug)]
pub(super) struct Table(Box<[Part]>);

/// A part of the table.
#[derive(Debug, Default)]
pub struct Part {
    at: usize,
    sites: HashMap<SiteId, Box<[Route]>>,
    /// The number of routes of each node.
    counts: Vec<usize>,
}

/// All routes, while they are read one by one.
#[derive(Debug, Default)]
pub struct Reading {
    /// The runs that were read; here the node of a route is an index into these.
    pub(super) runs: Vec<Arc<str>>,
    table: Table,
}

/// For each relay of a reading, its index among the known nodes.
#[derive(Debug)]
pub struct Places(pub(super) Vec<u32>);

impl Default for Table {
    fn default() -> Self {
        Self((0..PARTS).map(|at| Part { at, ..Part::default() }).collect())
    }
}

impl Table {
    /// The tunnels of a site.
    pub(super) fn get(&self, site: &SiteId) -> &[Route] {
        self.0[part_of(site)].sites.get(site).map_or(&[], |routes| routes)
    }

    /// The number of sites and of routes.
    pub(super) fn len(&self) -> (usize, usize) {
        let sites = self.0.iter().map(|part| part.sites.len()).sum();
        (sites, self.0.iter().flat_map(|part| &part.counts).sum())
    }

    /// The number of routes of a node.
    pub(super) fn count(&self, node: usize) -> usize {
        self.0.iter().filter_map(|part| part.counts.get(node)).sum()
    }

    pub(super) fn add(&mut self, record: RouteRecord, node: u32) {
        let Some(session) = session_id(&record.session) else { return };
        let part = &mut self.0[part_of(&record.site)];
        let routes = part.sites.entry(record.site).or_default();
        if !routes.iter().any(|known| known.session == session) {
            let mut more = std::mem::take(routes).into_vec();
            more.push(Route { session, key: record.key, node });
            *routes = more.into_boxed_slice();
            *part.count(node) += 1;
        }
    }

    /// Removes routes of a site and returns them.
    pub(super) fn remove(&mut self, site: &SiteId, gone: impl Fn(&Route) -> bool) -> Vec<Route> {
        let part = &mut self.0[part_of(site)];
        let Some(routes) = part.sites.get_mut(site) else { return Vec::new() };
        let (left, kept): (Vec<Route>, Vec<Route>) = routes.iter().partition(|route| gone(route));
        if kept.is_empty() {
            part.sites.remove(site);
        } else {
            *routes = kept.into_boxed_slice();
        }
        for route in &left {
            *part.count(route.node) -= 1;
        }
        left
    }

    /// Replaces a part and returns the old one.
    pub(super) fn replace(&mut self, part: Part) -> Part {
        let at = part.at;
        std::mem::replace(&mut self.0[at], part)
    }
}

impl Part {
    /// The index of this part.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn sites(&self) -> impl Iterator<Item = (&SiteId, &[Route])> {
        self.sites.iter().map(|(site, routes)| (site, &**routes))
    }

    fn count(&mut self, node: u32) -> &mut usize {
        let node = node as usize;
        if self.counts.len() <= node {
            self.counts.resize(node + 1, 0);
        }
        &mut self.counts[node]
    }

    /// Replaces the node indexes of a reading by those of the known nodes.
    fn placed(mut self, places: &Places) -> Self {
        for route in self.sites.values_mut().flat_map(|routes| routes.iter_mut()) {
            route.node = places.0[route.node as usize];
        }
        for (count, place) in std::mem::take(&mut self.counts).into_iter().zip(&places.0) {
            *self.count(*place) += count;
        }
        self
    }
}

impl Reading {
    /// Adds the next route.
    pub fn add(&mut self, record: RouteRecord) {
        let known = self.runs.iter().position(|run| **run == *record.run);
        let node = known.unwrap_or_else(|| {
            self.runs.push(record.run.as_str().into());
            self.runs.len() - 1
        });
        self.table.add(record, u32::try_from(node).unwrap_or(u32::MAX));
    }

    /// All parts, one after the other.
    pub fn parts(self, places: &Places) -> impl Iterator<Item = Part> {
        self.table.0.into_iter().map(|part| part.placed(places))
    }
}

/// The index of the part that a site is in: the same for every table.
pub(super) fn part_of(site: &SiteId) -> usize {
    let mut hasher = DefaultHasher::new();
    site.hash(&mut hasher);
    hasher.finish() as usize % PARTS
}

pub(super) fn session_id(text: &str) -> Option<SessionId> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}
