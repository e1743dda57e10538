"""The deterministic simulator: one seed is one world, with faults and liars, and the promises that must hold in it."""
