//! One question about a directed graph, asked of schemas and of interfaces: who is in a circle.
//! In time linear in the graph and without recursion, since a document may be one long chain.

/// For each node whether it is in a circle (or between two). `ends` are the nodes that each node leads to.
pub(crate) fn circular(ends: &[Vec<usize>]) -> Vec<bool> {
    let mut starts = vec![Vec::new(); ends.len()];
    for (from, to) in ends.iter().enumerate() {
        for end in to {
            starts[*end].push(from);
        }
    }
    let mut left = vec![true; ends.len()];
    peel(ends, &starts, &mut left);
    peel(&starts, ends, &mut left);
    left
}

/// Takes out what leads nowhere, again and again.
fn peel(ends: &[Vec<usize>], starts: &[Vec<usize>], left: &mut [bool]) {
    let mut count: Vec<usize> = ends.iter().map(|to| to.iter().filter(|end| left[**end]).count()).collect();
    let mut waiting: Vec<usize> = (0..ends.len()).filter(|node| left[*node] && count[*node] == 0).collect();
    while let Some(node) = waiting.pop() {
        left[node] = false;
        for start in &starts[node] {
            count[*start] -= 1;
            if left[*start] && count[*start] == 0 {
                waiting.push(*start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::circular;

    #[test]
    fn circles_are_found_and_what_leads_in_or_out_is_not() {
        // 0 → 1 ⇄ 2 → 3, 4 → 4, 5 → 3
        let ends = [vec![1], vec![2, 2], vec![1, 3], vec![], vec![4], vec![3]];
        assert_eq!(circular(&ends), [false, true, true, false, true, false]);
    }
}
