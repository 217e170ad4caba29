package org.junit.runner;

/** junit.org/junit4/javadoc/latest/org/junit/runner/Runner.html */
public abstract class Runner {}
