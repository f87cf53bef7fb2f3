/** Strongroom with the official Java SDK, unmodified. See README.md in the folder above. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) {
        if (!Checks.skipped("keys")) {
            Keys.run();
        }
        if (!Checks.skipped("secrets")) {
            Secrets.run();
        }
        Checks.finish();
    }
}
