//! The workers of one model, as far as a search looks at them.
//!
//! Invariant: once settled, a block's summary is that of its candidates. A search looks only into blocks whose
//! summary does not answer it, so that even a hundred thousand candidates take microseconds.

use super::{Candidate, Considered, Filter, MAX_LEASES_PER_WORKER, Rank};

/// Candidates in a block. Fewer make a search longer, more make a change longer.
const BLOCK: usize = 64;

/// Candidates, each in its place.
#[derive(Debug, Default)]
pub struct Candidates {
    list: Vec<Candidate>,
    blocks: Vec<Block>,
    /// Blocks with changes that are not in their summaries yet.
    unsettled: Vec<usize>,
}

/// What there is to know of up to [`BLOCK`] neighbours.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// All of them are live from here…
    live_from_ms: i64,
    /// … to here.
    live_until_ms: i64,
    /// Their group, if it is one.
    group: Option<u32>,
    workers: u8,
    not_routable: u8,
    busy: u8,
    utilisation_unknown: u8,
    /// For requests that only idle ones may take.
    idle: Class,
    /// For those that any may take.
    any: Class,
}

/// The candidates of a block that may take a request, if they have the memory.
#[derive(Debug, Clone, Copy, Default)]
struct Class {
    leased: u8,
    /// How many are the best.
    equals: u8,
    /// None if none may take it.
    best: Option<Rank>,
    /// The least that one has free, in thousandths of a MiB.
    least_free: u64,
}

impl Class {
    fn add(&mut self, rank: Rank) {
        let free = rank.free_vram.0;
        match self.best {
            None => *self = Self { equals: 1, best: Some(rank), least_free: free, ..*self },
            Some(best) if rank < best => (self.best, self.equals) = (Some(rank), 1),
            Some(best) => self.equals += u8::from(rank == best),
        }
        self.least_free = self.least_free.min(free);
    }
}

impl Block {
    fn of(candidates: &[Candidate]) -> Self {
        let mut block = Self {
            live_from_ms: i64::MIN,
            live_until_ms: i64::MAX,
            group: candidates.first().map(|candidate| candidate.group),
            workers: candidates.len() as u8,
            not_routable: 0,
            busy: 0,
            utilisation_unknown: 0,
            idle: Class::default(),
            any: Class::default(),
        };
        for candidate in candidates {
            block.live_from_ms = block.live_from_ms.max(candidate.live_from_ms);
            block.live_until_ms = block.live_until_ms.min(candidate.live_until_ms);
            block.group = block.group.filter(|&group| group == candidate.group);
            if !candidate.routable {
                block.not_routable += 1;
                continue;
            }
            if candidate.idle != Some(true) {
                block.busy += 1;
                block.utilisation_unknown += u8::from(candidate.idle.is_none());
            } else if candidate.leases > 0 {
                block.idle.leased += 1;
            } else {
                block.idle.add(candidate.rank);
            }
            if candidate.leases >= MAX_LEASES_PER_WORKER {
                block.any.leased += 1;
            } else {
                block.any.add(candidate.rank);
            }
        }
        block
    }

    /// The class that a filter asks for, if it treats all of the class alike.
    fn answer(&self, filter: &Filter<'_>) -> Option<&Class> {
        let class = if filter.idle_only { &self.idle } else { &self.any };
        let alike = (self.live_from_ms..=self.live_until_ms).contains(&filter.now_ms)
            && (filter.group.is_none() || self.group.is_some())
            && filter.exclude.is_empty()
            && filter
                .required_vram
                .is_none_or(|required| class.best.is_none() || required < class.least_free);
        alike.then_some(class)
    }

    fn count(&self, class: &Class, filter: &Filter<'_>, considered: &mut Considered) {
        considered.workers += usize::from(self.workers);
        considered.not_routable += usize::from(self.not_routable);
        considered.leased += usize::from(class.leased);
        if filter.idle_only {
            considered.busy += usize::from(self.busy);
            considered.utilisation_unknown += usize::from(self.utilisation_unknown);
        }
    }
}

/// The best so far: one candidate, or some equals of a block.
struct Best {
    rank: Rank,
    /// How many were as good.
    equals: usize,
    /// The first place, and the number of places, where it is.
    at: usize,
    among: usize,
}

impl Candidates {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, place: usize) -> &Candidate {
        &self.list[place]
    }

    /// Adds one at the end; its place.
    pub fn push(&mut self, candidate: Candidate) -> usize {
        let place = self.list.len();
        self.list.push(candidate);
        if place.is_multiple_of(BLOCK) {
            self.blocks.push(Block::of(&[candidate]));
        } else {
            self.summarise(place / BLOCK);
        }
        place
    }

    /// Puts one in the place of another.
    pub fn set(&mut self, place: usize, candidate: Candidate) {
        self.list[place] = candidate;
        self.summarise(place / BLOCK);
    }

    /// The same for one of many: [`settle`](Self::settle) must follow before the next search.
    pub fn set_later(&mut self, place: usize, candidate: Candidate) {
        self.list[place] = candidate;
        let block = place / BLOCK;
        if self.unsettled.last() != Some(&block) {
            self.unsettled.push(block);
        }
    }

    /// Takes over what [`set_later`](Self::set_later) changed.
    pub fn settle(&mut self) {
        while let Some(block) = self.unsettled.pop() {
            self.summarise(block);
        }
    }

    /// Removes one; the last takes its place.
    pub fn swap_remove(&mut self, place: usize) {
        self.list.swap_remove(place);
        self.blocks.truncate(self.list.len().div_ceil(BLOCK));
        // The place's block has another one now, the last block one less.
        for block in [place / BLOCK, self.list.len() / BLOCK] {
            if block < self.blocks.len() {
                self.summarise(block);
            }
        }
    }

    fn summarise(&mut self, block: usize) {
        self.blocks[block] = Block::of(neighbours(&self.list, block));
    }

    /// The best candidate that satisfies a filter, by its place, and what became of the others.
    /// Each is counted in the first that applies of not live, excluded, not routable, busy or
    /// leased, no capacity.
    ///
    /// Among equals `random(n)` decides, a number below `n`: each has the same chance if the
    /// numbers have.
    pub fn choose(
        &self,
        filter: &Filter<'_>,
        mut random: impl FnMut(usize) -> usize,
    ) -> (Option<usize>, Considered) {
        let mut considered = Considered::default();
        let mut best: Option<Best> = None;
        let mut offer = |rank: Rank, equals: usize, at: usize, among: usize| match &mut best {
            Some(best) if best.rank < rank => {}
            Some(best) if best.rank == rank => {
                best.equals += equals;
                if random(best.equals) < equals {
                    (best.at, best.among) = (at, among);
                }
            }
            best => *best = Some(Best { rank, equals, at, among }),
        };
        for (number, block) in self.blocks.iter().enumerate() {
            let first = number * BLOCK;
            if filter.group.is_some() && block.group.is_some() && block.group != filter.group {
                continue;
            }
            if let Some(class) = block.answer(filter) {
                block.count(class, filter, &mut considered);
                if let Some(rank) = class.best {
                    offer(rank, class.equals.into(), first, BLOCK);
                }
                continue;
            }
            for (at, candidate) in neighbours(&self.list, number).iter().enumerate() {
                if filter.group.is_some_and(|group| group != candidate.group) {
                    continue;
                }
                considered.workers += 1;
                if !considered.rejects(candidate, filter) {
                    offer(candidate.rank, 1, first + at, 1);
                }
            }
        }
        let place = best.and_then(|Best { rank, at, among, .. }| {
            let fit = |place: &usize| {
                let candidate = &self.list[*place];
                candidate.rank == rank && !Considered::default().rejects(candidate, filter)
            };
            let equals = || (at..self.list.len().min(at + among)).filter(fit);
            match among {
                1 => Some(at),
                _ => equals().nth(random(equals().count())),
            }
        });
        (place, considered)
    }
}

fn neighbours(list: &[Candidate], block: usize) -> &[Candidate] {
    let first = block * BLOCK;
    &list[first..list.len().min(first + BLOCK)]
}

#[cfg(test)]
mod tests;
