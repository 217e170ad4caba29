package androidx.test.ext.junit.runners;

import org.junit.runner.Runner;

/** developer.android.com/reference/androidx/test/ext/junit/runners/AndroidJUnit4 */
public final class AndroidJUnit4 extends Runner {}
