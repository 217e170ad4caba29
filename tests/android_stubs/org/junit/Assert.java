package org.junit;

/** junit.org/junit4/javadoc/latest/org/junit/Assert.html */
public class Assert {
    protected Assert() {}

    public static void assertTrue(String message, boolean condition) {
        if (!condition) throw new AssertionError(message);
    }

    public static void assertEquals(Object expected, Object actual) {
        assertTrue("expected " + expected + ", found " + actual, expected.equals(actual));
    }

    public static void assertEquals(long expected, long actual) {
        assertTrue("expected " + expected + ", found " + actual, expected == actual);
    }
}
