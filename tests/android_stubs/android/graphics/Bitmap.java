package android.graphics;

/** developer.android.com/reference/android/graphics/Bitmap */
public final class Bitmap {
    /** developer.android.com/reference/android/graphics/Bitmap.Config */
    public enum Config { ALPHA_8, RGB_565, ARGB_4444, ARGB_8888, RGBA_F16, HARDWARE, RGBA_1010102 }

    private final int[] colors;
    private final int width;
    private final int height;
    private final Config config;

    private Bitmap(int[] colors, int width, int height, Config config) {
        this.colors = colors;
        this.width = width;
        this.height = height;
        this.config = config;
    }

    public static Bitmap createBitmap(int width, int height, Config config) {
        return new Bitmap(new int[width * height], width, height, config);
    }

    public static Bitmap createBitmap(int[] colors, int width, int height, Config config) {
        return new Bitmap(colors.clone(), width, height, config);
    }

    public int getWidth() {
        return width;
    }

    public int getHeight() {
        return height;
    }

    public Config getConfig() {
        return config;
    }

    public Bitmap copy(Config config, boolean isMutable) {
        return new Bitmap(colors.clone(), width, height, config);
    }

    public void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height) {
        if (config == Config.HARDWARE) throw new IllegalStateException("pixel access is not supported on HARDWARE bitmaps");
        for (int row = 0; row < height; ++row) {
            System.arraycopy(colors, (y + row) * this.width + x, pixels, offset + row * stride, width);
        }
    }
}
