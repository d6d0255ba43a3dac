//! The plan as EXPLAIN prints it: a line for every binding, then condition, output and TOP.

use std::fmt;

use super::{Binding, Link, Output, Plan, Table};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, binding) in self.bindings.iter().enumerate() {
            writeln!(f, "#{index} {binding}")?;
        }
        if let Some(condition) = &self.condition {
            writeln!(f, "where {condition}")?;
        }
        if let Some(top) = self.top {
            writeln!(f, "top {top}")?;
        }
        match &self.output {
            Output::Document => f.write_str("select #0"),
            Output::Count { name } => write!(f, "select count as {name}"),
            Output::Columns(columns) => {
                for (index, output) in columns.iter().enumerate() {
                    f.write_str(if index == 0 { "select " } else { ", " })?;
                    write!(f, "{} as {}", output.column, output.name)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.table {
            Table::DigitalTwins => "DIGITALTWINS",
            Table::Relationships => "RELATIONSHIPS",
        })?;
        if let Some(alias) = &self.alias {
            write!(f, " {alias}")?;
        }
        match &self.link {
            Link::Root => Ok(()),
            Link::OutgoingFrom { twin, name } => write!(f, ": '{name}' from #{twin}"),
            Link::TargetOf { relationship } => write!(f, ": target of #{relationship}"),
        }
    }
}
