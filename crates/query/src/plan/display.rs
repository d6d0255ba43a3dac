//! The plan as EXPLAIN prints it: a line for every binding, then condition, output and TOP.

use std::fmt;

use super::{Beside, Binding, Link, Output, Plan, Table};

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
            Output::Groups(columns) => {
                f.write_str("select count")?;
                columns
                    .iter()
                    .enumerate()
                    .try_for_each(|(at, column)| write!(f, "{}{column}", if at == 0 { " by " } else { ", " }))
            }
            Output::Records(beside) => {
                f.write_str("select #0")?;
                beside.iter().try_for_each(|beside| write!(f, ", its {beside}"))
            }
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

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Activity => "activity",
            Self::MessageQueue => "message queue",
        })
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.table {
            Table::DigitalTwins => "DIGITALTWINS",
            Table::Relationships => "RELATIONSHIPS",
            Table::DeviceTwins => "devices",
            Table::ModuleTwins => "devices.modules",
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
