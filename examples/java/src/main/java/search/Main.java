package search;

import glimpse.query.v1.Hit;
import glimpse.query.v1.QueryGrpc;
import glimpse.query.v1.SearchOptions;
import glimpse.query.v1.SearchRequest;
import glimpse.query.v1.SearchResponse;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;

/**
 * Asks a running glimpse for the images that fit a text.
 *
 * <p>java -jar target/search.jar [--address 127.0.0.1:50053] [--collection images] [--limit 10] TEXT
 */
public final class Main {
  public static void main(String[] arguments) {
    String address = "127.0.0.1:50053";
    String collection = "images";
    int limit = 10;
    List<String> text = new ArrayList<>();
    for (int i = 0; i < arguments.length; i++) {
      switch (arguments[i]) {
        case "--address" -> address = arguments[++i];
        case "--collection" -> collection = arguments[++i];
        case "--limit" -> limit = Integer.parseInt(arguments[++i]);
        default -> text.add(arguments[i]);
      }
    }
    if (text.isEmpty()) {
      System.err.println("give a text to search for");
      System.exit(2);
    }

    // One channel serves any number of calls at once; make it once and keep it.
    ManagedChannel channel =
        Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    SearchRequest request =
        SearchRequest.newBuilder()
            .setCollection(collection)
            .setText(String.join(" ", text))
            .setOptions(SearchOptions.newBuilder().setLimit(limit))
            .build();
    try {
      SearchResponse response =
          QueryGrpc.newBlockingStub(channel).withDeadlineAfter(5, TimeUnit.SECONDS).search(request);
      for (Hit hit : response.getHitsList()) {
        System.out.printf(Locale.ROOT, "%.3f  %s%n", hit.getScore(), hit.getAttributes().getUri());
      }
    } catch (StatusRuntimeException error) {
      System.err.println(error.getMessage());
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }
}
