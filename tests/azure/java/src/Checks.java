import com.azure.core.credential.AccessToken;
import com.azure.core.credential.TokenCredential;
import com.azure.core.exception.HttpResponseException;
import com.azure.core.http.HttpClient;
import com.azure.core.http.netty.NettyAsyncHttpClientBuilder;
import com.azure.core.http.policy.FixedDelayOptions;
import com.azure.core.http.policy.RetryOptions;
import com.azure.core.http.rest.PagedIterable;
import com.azure.core.util.polling.SyncPoller;
import io.netty.handler.ssl.SslContextBuilder;
import java.io.File;
import java.net.URI;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Consumer;
import javax.net.ssl.SSLException;
import reactor.core.publisher.Mono;

/** Where the vault is, how to talk to it, and how checks are counted and printed. */
final class Checks {
    static final String VAULT = wanted("AKV_URL").replaceFirst("/$", "");
    static final TokenCredential CREDENTIAL = credential(wanted("AKV_TOKEN"));
    static final HttpClient HTTP = http();
    static final RetryOptions RETRY = new RetryOptions(new FixedDelayOptions(2, Duration.ofMillis(200)));

    private static final String RUN = HexFormat.of().toHexDigits(ThreadLocalRandom.current().nextInt());
    private static int passed;
    private static int failed;

    static {
        // No check may hang: the whole program ends after four minutes.
        Thread watch = new Thread(() -> {
            try {
                Thread.sleep(Duration.ofMinutes(4).toMillis());
            } catch (InterruptedException ended) {
                return;
            }
            System.out.println("FAIL  not done after four minutes\n" + passed + " passed, " + (failed + 1) + " failed");
            Runtime.getRuntime().halt(1);
        });
        watch.setDaemon(true);
        watch.start();
    }

    private Checks() {}

    private static String wanted(String variable) {
        String value = System.getenv(variable);
        if (value == null || value.isEmpty()) {
            System.err.println(variable + " is not set: source the env file of `strongroom dev`.");
            System.exit(2);
        }
        return value;
    }

    static boolean skipped(String group) {
        return List.of(Objects.requireNonNullElse(System.getenv("AKV_SKIP"), "").split(",")).contains(group);
    }

    /** The smallest credential: always the same token. */
    static TokenCredential credential(String token) {
        return context -> Mono.just(new AccessToken(token, OffsetDateTime.now().plusHours(1)));
    }

    /** The SDK's own HTTP client, which trusts AKV_CA. */
    private static HttpClient http() {
        String ca = System.getenv("AKV_CA");
        if (ca == null || ca.isEmpty()) {
            return HttpClient.createDefault();
        }
        try {
            var trust = SslContextBuilder.forClient().trustManager(new File(ca)).build();
            var client = reactor.netty.http.client.HttpClient.create().secure(with -> with.sslContext(trust));
            return new NettyAsyncHttpClientBuilder(client).responseTimeout(Duration.ofSeconds(30)).build();
        } catch (SSLException error) {
            throw new IllegalStateException(ca, error);
        }
    }

    /** The SDK must not compare the challenge's resource with a host that has no parent domain. */
    static boolean verificationOff() {
        String host = URI.create(VAULT).getHost();
        return host.equals("localhost") || host.matches("[0-9.]+|\\[.*]");
    }

    /** A name that no other run has. */
    static String named(String what) {
        return "java-" + RUN + "-" + what;
    }

    interface Body {
        void run() throws Exception;
    }

    /** One check: a line, and a count. The checks after it run whatever comes of it. */
    static void check(String what, Body body) {
        try {
            body.run();
            passed++;
            System.out.println("ok    " + what);
        } catch (Exception | AssertionError error) {
            failed++;
            String said = error.toString().replaceAll("\\s+", " ");
            System.out.println("FAIL  " + what + ": " + said.substring(0, Math.min(said.length(), 400)));
        }
    }

    static void that(boolean holds, Object what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void same(Object found, Object expected) {
        that(Objects.deepEquals(found, expected), "expected " + expected + ", got " + found);
    }

    /** The call must be refused with this status, and with this code unless it is null. */
    static void refused(int status, String code, Body call) throws Exception {
        try {
            call.run();
        } catch (HttpResponseException error) {
            String said = error.getMessage();
            that(error.getResponse().getStatusCode() == status && (code == null || said.contains(code)), said);
            return;
        }
        throw new AssertionError("not refused, wanted " + status);
    }

    /** Runs the body for every item, four at a time, and fails with the first failure. */
    static <T> void each(List<T> items, Consumer<T> body) throws Exception {
        var threads = Executors.newFixedThreadPool(4);
        try {
            var done = new ArrayList<java.util.concurrent.Future<?>>();
            for (T item : items) {
                done.add(threads.submit(() -> body.accept(item)));
            }
            for (var one : done) {
                one.get();
            }
        } catch (ExecutionException error) {
            throw new AssertionError(error.getCause());
        } finally {
            threads.shutdown();
        }
    }

    /** Waits for a deletion or a recovery; the SDK's own second between two looks is for a slower service. */
    static <T> T settled(SyncPoller<T, Void> poller) {
        var last = poller.setPollInterval(Duration.ofMillis(50)).waitForCompletion(Duration.ofSeconds(30));
        return last.getValue();
    }

    record Pages<T>(List<T> items, int count) {}

    /** Every item of a list, and how many pages it came in. No page may hold more than 25. */
    static <T> Pages<T> pages(PagedIterable<T> list) {
        var items = new ArrayList<T>();
        int count = 0;
        for (var page : list.iterableByPage()) {
            that(page.getValue().size() <= 25, "a page of " + page.getValue().size());
            items.addAll(page.getValue());
            count++;
        }
        return new Pages<>(items, count);
    }

    /** The last line. */
    static void finish() {
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 && passed > 0 ? 0 : 1);
    }
}
