//! The coverage ledger: disks, partitions and filesystems as a tree by their names (`disk0`, `disk0/p1`), then what
//! belongs to the machine as a whole.

use std::collections::HashMap;

use stillframe_model::{Coverage, CoverageKind, DiskText, Status};

use super::page::{Lead, Page, Style, Text};
use super::{and_more, facts, names, numbers, status_mark, status_style};
use crate::{Options, words};

const MAX_ROWS: usize = 40;

/// From this width on, sizes have a column.
const SIZE_COLUMN_FROM: usize = 72;
/// Two of indentation, the mark, a space.
const MARK_COLUMNS: usize = 4;
/// `1023.9 GiB`.
const SIZE_COLUMNS: usize = 10;

pub(super) fn section(page: &mut Page, coverage: &[Coverage], options: &Options) {
    if coverage.is_empty() {
        return;
    }
    page.heading("COVERAGE");
    let shown = coverage.iter().filter(|row| options.verbose || !is_empty_gap(row));
    let (volumes, others): (Vec<_>, Vec<_>) = shown.partition(|row| is_volume(row.kind));
    let mut lines = Tree::of(&volumes).lines();
    lines.extend(others.into_iter().map(Line::of_machine));

    let names =
        lines.iter().map(|line| line.branch.chars().count() + Text::new().plain(&line.name).columns());
    let name_columns =
        names.filter(|columns| *columns <= widest_name(page.width())).max().unwrap_or_default();
    let shown = if options.verbose { lines.len() } else { MAX_ROWS };
    for line in lines.iter().take(shown) {
        line.write(page, name_columns, options);
    }
    and_more(page, 2, lines.len().saturating_sub(shown), "; --format json lists them all");
}

/// Half the page belongs to what is said of a row. A name that is too wide for the other half has its own line.
fn widest_name(width: usize) -> usize {
    let size = if width < SIZE_COLUMN_FROM { 0 } else { SIZE_COLUMNS + 2 };
    (width / 2).saturating_sub(MARK_COLUMNS + 2 + size).min(40)
}

/// Alignment leaves empty space between partitions on every disk.
fn is_empty_gap(row: &Coverage) -> bool {
    row.kind == CoverageKind::Unallocated && row.status == Status::Skipped
}

const fn is_volume(kind: CoverageKind) -> bool {
    use CoverageKind::{Disk, Filesystem, Partition, Unallocated};
    matches!(kind, Disk | Partition | Unallocated | Filesystem)
}

/// One line of the section.
struct Line<'a> {
    row: &'a Coverage,
    /// What lies around the row where it tells nothing else: see [`Tree`].
    holder: Option<&'a Coverage>,
    /// `├─ `, and what continues it on the lines below.
    branch: String,
    below: String,
    name: String,
}

impl<'a> Line<'a> {
    fn of_machine(row: &'a Coverage) -> Self {
        let name = words::coverage_kind(row.kind).to_owned();
        Self { row, holder: None, branch: String::new(), below: String::new(), name }
    }

    fn write(&self, page: &mut Page, name_columns: usize, options: &Options) {
        let row = self.row;
        let skipped = row.status == Status::Skipped;
        let dim_if_skipped = if skipped { Style::Dim } else { Style::Plain };
        let mark = Text::new().plain("  ").with(status_style(row.status), status_mark(row.status)).plain(" ");
        let lead = Lead { rest: Text::new().plain("    ").dim(&self.below), first: mark.dim(&self.branch) };
        let name = Text::new().with(dim_if_skipped, &self.name);
        let column = MARK_COLUMNS + name_columns + 2;
        let bytes = self.fact(|row| row.facts.len_bytes).map(numbers::size);
        let body = self.body(options);
        if page.width() < SIZE_COLUMN_FROM {
            let size = bytes.map(|size| format!("{size}  ")).unwrap_or_default();
            let body = Text::new().plain(size).followed_by(body);
            page.row(lead, &name, column, &if skipped { body.all(Style::Dim) } else { body });
            return;
        }
        // The size is part of the name's columns, so that what follows lines up.
        let size = bytes.unwrap_or_default();
        let pad = |used: usize| {
            " ".repeat((name_columns + 2 + SIZE_COLUMNS).saturating_sub(used + size.chars().count()))
        };
        let used = self.branch.chars().count() + name.columns();
        let body = if skipped { body.all(Style::Dim) } else { body };
        let body_column = column + SIZE_COLUMNS + 2;
        if used <= name_columns {
            let name = name.plain(pad(used)).with(dim_if_skipped, size);
            page.row(lead, &name, body_column, &body);
        } else {
            let rest = lead.rest.clone();
            page.paragraph(lead, &name);
            let size = Text::new().plain(pad(self.branch.chars().count())).with(dim_if_skipped, size);
            page.row(Lead { first: rest.clone(), rest }, &size, body_column, &body);
        }
    }

    /// A fact of the row, or of what lies around it.
    fn fact<T>(&self, fact: impl Fn(&'a Coverage) -> Option<T>) -> Option<T> {
        fact(self.row).or_else(|| self.holder.and_then(fact))
    }

    fn body(&self, options: &Options) -> Text {
        let row = self.row;
        let mut parts = Vec::new();
        match (row.status, &row.reason) {
            (Status::Scanned, _) => {}
            (Status::Skipped, Some(reason)) => parts.push(Text::new().plain(format!("skipped: {reason}"))),
            // The reason stands in the section of what was not read.
            (status, _) => parts.push(Text::new().with(status_style(status), words::status(status))),
        }
        if !is_volume(row.kind) {
            parts.push(Text::new().plain(names::name(row.name.as_str())));
        }
        parts.extend(facts(row, options).into_iter().map(|fact| Text::new().plain(fact)));
        if row.facts.label.is_none()
            && let Some(holder) = self.holder.filter(|holder| holder.kind == CoverageKind::Partition)
            && let Some(label) = holder.facts.label.as_ref()
        {
            parts.push(Text::new().plain(format!("partition {}", super::quoted(label))));
        }
        parts.extend(row.notes.iter().map(|note| Text::new().dim(note.as_str())));
        if options.verbose && !row.not_told.is_empty() {
            let what: Vec<_> = row.not_told.iter().map(|what| what.as_str()).collect();
            parts.push(Text::new().dim(format!("its reader does not tell: {}", what.join(", "))));
        }
        super::joined(parts, ", ")
    }
}

/// Rows by their names. A filesystem that has the name of its partition or disk takes its line, where the partition
/// itself was read and has nothing more to say.
struct Tree<'a> {
    nodes: Vec<Node<'a>>,
}

struct Node<'a> {
    row: &'a Coverage,
    holder: Option<&'a Coverage>,
    parent: Option<usize>,
    children: Vec<usize>,
    name: String,
}

impl<'a> Tree<'a> {
    fn of(rows: &[&'a Coverage]) -> Self {
        let mut nodes: Vec<Node<'a>> = Vec::new();
        let mut by_name: HashMap<&DiskText, usize> = HashMap::new();
        for &row in rows {
            let named = by_name.get(&row.name).copied();
            if let Some(node) = named.and_then(|index| nodes.get_mut(index))
                && node.holder.is_none()
                && is_plain_holder(node.row)
                && row.kind == CoverageKind::Filesystem
            {
                node.holder = Some(std::mem::replace(&mut node.row, row));
                continue;
            }
            let kind = row
                .facts
                .format
                .as_ref()
                .map_or_else(|| words::coverage_kind(row.kind), |format| format.as_str());
            let name = if named.is_some() { kind.to_owned() } else { names::name(row.name.as_str()) };
            by_name.entry(&row.name).or_insert(nodes.len());
            nodes.push(Node { row, holder: None, parent: named, children: Vec::new(), name });
        }
        let by_name: HashMap<&str, usize> =
            by_name.into_iter().map(|(name, at)| (name.as_str(), at)).collect();
        let mut tree = Self { nodes };
        tree.link(&by_name);
        tree
    }

    /// Hangs each node below the nearest one whose name, and a `/`, begin its own.
    fn link(&mut self, by_name: &HashMap<&str, usize>) {
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(index) else { continue };
            if node.parent.is_none() {
                let name = node.row.name.as_str();
                let above = name.rmatch_indices('/').find_map(|(at, _)| {
                    let (start, rest) = name.split_at_checked(at)?;
                    Some((*by_name.get(start)?, rest.get(1..)?))
                });
                if let Some((parent, own)) = above {
                    node.parent = Some(parent);
                    node.name = names::name(own);
                }
            }
            if let Some(parent) = node.parent
                && let Some(parent) = self.nodes.get_mut(parent)
            {
                parent.children.push(index);
            }
        }
    }

    fn lines(self) -> Vec<Line<'a>> {
        let mut lines = Vec::with_capacity(self.nodes.len());
        let roots =
            (0..self.nodes.len()).filter(|at| self.nodes.get(*at).is_some_and(|node| node.parent.is_none()));
        // The index of a node, what its line begins with, and what the lines of its children do.
        let mut open: Vec<(usize, String, String)> =
            roots.rev().map(|root| (root, String::new(), String::new())).collect();
        while let Some((index, branch, below)) = open.pop() {
            let Some(node) = self.nodes.get(index) else { continue };
            for (from_last, child) in node.children.iter().rev().enumerate() {
                let (corner, line) = if from_last == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                open.push((*child, format!("{below}{corner}"), format!("{below}{line}")));
            }
            let has_children = !node.children.is_empty();
            let below = if has_children { format!("{below}│") } else { below };
            lines.push(Line { row: node.row, holder: node.holder, branch, below, name: node.name.clone() });
        }
        lines
    }
}

/// Whether a row of a disk or partition says no more than that there is something in it.
fn is_plain_holder(row: &Coverage) -> bool {
    matches!(row.kind, CoverageKind::Disk | CoverageKind::Partition)
        && row.status == Status::Scanned
        && row.notes.is_empty()
        && row.faults.is_empty()
}
