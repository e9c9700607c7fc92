//! Rows or columns: what mass each should have, and how strictly.

/// The masses of one side. They are met exactly, or paid for: with a finite strength ρ the plan's
/// sums r are drawn to the masses by ρ KL(r | masses), and at the optimum r = masses · exp(−f / ρ).
pub(super) struct Side {
    /// Relative to the total of the rows.
    pub masses: Vec<f64>,
    /// ρ; infinite where the masses are met exactly.
    pub strength: f64,
    /// Whether the masses are only a limit: the potential, in units of ε, is at most 0 then.
    pub limit: bool,
    /// What the potentials hold besides f, in units of ε: P = exp((f + g − M) / ε + offsets).
    pub offset: Vec<f64>,
}

impl Side {
    /// Masses that are met exactly.
    pub fn exact(masses: Vec<f64>) -> Self {
        Self { offset: vec![0.0; masses.len()], strength: f64::INFINITY, limit: false, masses }
    }

    /// Masses that are not exceeded.
    pub fn limited(masses: Vec<f64>) -> Self {
        Self { limit: true, ..Self::exact(masses) }
    }

    pub fn is_exact(&self) -> bool {
        self.strength == f64::INFINITY
    }

    /// ε / ρ: 0 where the masses are met exactly.
    pub fn slack(&self, epsilon: f64) -> f64 {
        epsilon / self.strength
    }

    /// log of the mass at potential 0.
    fn log_mass(&self, i: usize, epsilon: f64) -> f64 {
        self.masses[i].ln() + if self.is_exact() { 0.0 } else { self.slack(epsilon) * self.offset[i] }
    }

    /// Potential in units of ε and mass that solve one row or column, given the logarithm of its sum
    /// at potential 0.
    pub fn solve(&self, i: usize, log_sum: f64, epsilon: f64) -> (f64, f64) {
        if self.masses[i] == 0.0 {
            return (f64::NEG_INFINITY, 0.0);
        }
        if self.limit && self.masses[i].ln() >= log_sum {
            return (0.0, log_sum.exp());
        }
        if self.is_exact() {
            return (self.masses[i].ln() - log_sum, self.masses[i]);
        }
        let (slack, log_mass) = (self.slack(epsilon), self.log_mass(i, epsilon));
        ((log_mass - log_sum) / (1.0 + slack), ((log_mass + slack * log_sum) / (1.0 + slack)).exp())
    }

    /// The masses that potentials ask for.
    pub fn targets(&self, potentials: &[f64], epsilon: f64) -> Vec<f64> {
        if self.is_exact() {
            return self.masses.clone();
        }
        let log_target = |(i, p): (usize, &f64)| self.log_mass(i, epsilon) - p / self.strength;
        let target = |at: (usize, &f64)| if self.masses[at.0] == 0.0 { 0.0 } else { log_target(at).exp() };
        potentials.iter().enumerate().map(target).collect()
    }

    /// This side's part of the dual, in units of ε and but for a constant, at masses as asked for.
    pub fn dual(&self, potentials: &[f64], targets: &[f64], epsilon: f64) -> f64 {
        if self.is_exact() {
            let terms = potentials.iter().zip(&self.masses).filter(|(_, mass)| **mass > 0.0);
            terms.map(|(p, mass)| p * mass).sum::<f64>() / epsilon
        } else {
            -targets.iter().sum::<f64>() / self.slack(epsilon)
        }
    }

    /// What sums that differ from the targets leave between primal and dual, and their L1 distance.
    pub fn residual(&self, potentials: &[f64], sums: &[f64], targets: &[f64]) -> (f64, f64) {
        let terms = potentials.iter().zip(sums.iter().zip(targets));
        terms.fold((0.0, 0.0), |(gap, error), (p, (&s, &t))| {
            let term = match (self.is_exact(), s > 0.0 && t > 0.0) {
                (true, _) if p.is_finite() => p * (s - t),
                (false, true) => self.strength * (s * (s / t).ln() - s + t),
                _ => 0.0,
            };
            (gap + term, error + (s - t).abs())
        })
    }
}
