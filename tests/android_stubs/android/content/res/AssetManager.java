package android.content.res;

import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;

/** developer.android.com/reference/android/content/res/AssetManager; here a folder, in which `*.compressed` are so. */
public final class AssetManager implements AutoCloseable {
    private final File folder;

    public AssetManager(File folder) {
        this.folder = folder;
    }

    public InputStream open(String fileName) throws IOException {
        File compressed = new File(folder, fileName + ".compressed");
        return new FileInputStream(compressed.exists() ? compressed : new File(folder, fileName));
    }

    public AssetFileDescriptor openFd(String fileName) throws IOException {
        if (!new File(folder, fileName).exists()) {
            throw new FileNotFoundException("This file can not be opened as a file descriptor; it is probably compressed");
        }
        return new AssetFileDescriptor(new File(folder, fileName));
    }

    @Override
    public void close() {}
}
