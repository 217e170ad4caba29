package android.content;

import android.content.res.AssetManager;

/** developer.android.com/reference/android/content/Context */
public abstract class Context {
    public abstract AssetManager getAssets();
}
