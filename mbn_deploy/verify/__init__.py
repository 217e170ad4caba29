"""Does the exported file still give the right answers: accuracy, agreement with float, golden vectors."""
