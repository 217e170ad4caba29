"""The package for Android apps: assets, a class in Kotlin, and a test for the phone."""
