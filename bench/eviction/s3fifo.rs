//! S3-FIFO (Yang and others, SOSP 2023) with queues bounded by bytes: a small one for what is new, a main one for what was
//! asked for again, and a ghost one that remembers the names of what left the small one unused.

use std::collections::VecDeque;

use crate::policy::Policy;
use crate::traces::Item;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Small,
    Main,
    /// The number says which entry of the ghost queue is the valid one.
    Ghost(u64),
}

/// A cache with this policy. The small queue has a tenth of the bytes, the ghosts stand for as many as the main one has.
#[derive(Debug)]
pub struct S3Fifo {
    capacity: u64,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghosts: VecDeque<(u32, u64)>,
    small_bytes: u64,
    main_bytes: u64,
    ghost_bytes: u64,
    dropped: u64,
    places: Vec<Place>,
    uses: Vec<u8>,
    sizes: Vec<u64>,
}

impl S3Fifo {
    /// An empty cache of `capacity` bytes for pictures numbered below `keys`.
    pub fn new(capacity: u64, keys: usize) -> Self {
        S3Fifo {
            capacity,
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            small_bytes: 0,
            main_bytes: 0,
            ghost_bytes: 0,
            dropped: 0,
            places: vec![Place::Nowhere; keys],
            uses: vec![0; keys],
            sizes: vec![0; keys],
        }
    }

    fn make_room(&mut self) {
        if self.small_bytes > self.capacity / 10 || self.main.is_empty() {
            self.drop_from_small();
        } else {
            self.drop_from_main();
        }
    }

    fn drop_from_small(&mut self) {
        while let Some(key) = self.small.pop_front() {
            let bytes = self.sizes[key as usize];
            self.small_bytes -= bytes;
            if self.uses[key as usize] > 1 {
                self.uses[key as usize] = 0;
                self.places[key as usize] = Place::Main;
                self.main.push_back(key);
                self.main_bytes += bytes;
            } else {
                self.bury(key, bytes);
                return;
            }
        }
        self.drop_from_main();
    }

    fn drop_from_main(&mut self) {
        while let Some(key) = self.main.pop_front() {
            if self.uses[key as usize] > 0 {
                self.uses[key as usize] -= 1;
                self.main.push_back(key);
            } else {
                self.main_bytes -= self.sizes[key as usize];
                self.places[key as usize] = Place::Nowhere;
                return;
            }
        }
    }

    fn bury(&mut self, key: u32, bytes: u64) {
        self.dropped += 1;
        self.places[key as usize] = Place::Ghost(self.dropped);
        self.ghosts.push_back((key, self.dropped));
        self.ghost_bytes += bytes;
        while self.ghost_bytes > self.capacity / 10 * 9 {
            let Some((old, number)) = self.ghosts.pop_front() else { break };
            self.ghost_bytes -= self.sizes[old as usize];
            if self.places[old as usize] == Place::Ghost(number) {
                self.places[old as usize] = Place::Nowhere;
            }
        }
    }
}

impl Policy for S3Fifo {
    fn request(&mut self, key: u32, item: Item, _: i64) -> bool {
        let at = key as usize;
        if matches!(self.places[at], Place::Small | Place::Main) {
            self.uses[at] = (self.uses[at] + 1).min(3);
            return true;
        }
        self.sizes[at] = item.bytes;
        if item.bytes > self.capacity / 10 {
            return false;
        }
        // Making room may bury others, and so forget this one: ask first.
        let was_ghost = matches!(self.places[at], Place::Ghost(_));
        while self.bytes() + item.bytes > self.capacity {
            self.make_room();
        }
        self.uses[at] = 0;
        if was_ghost {
            self.places[at] = Place::Main;
            self.main.push_back(key);
            self.main_bytes += item.bytes;
        } else {
            self.places[at] = Place::Small;
            self.small.push_back(key);
            self.small_bytes += item.bytes;
        }
        false
    }

    fn bytes(&self) -> u64 {
        self.small_bytes + self.main_bytes
    }
}
