"""Work that goes on while nobody looks: generations, their reports, batches."""
